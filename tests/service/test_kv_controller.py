from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.service import controller
from twisted_kv.service.settings import Settings

PEERS = {1: "tcp:a:1", 2: "tcp:b:1", 3: "tcp:c:1"}


class Everything:
    """A network, a member and a clerk in one; the tests look at who was made of what."""

    replica = None

    def __init__(self) -> None:
        self.doors = {"ctl_query": succeed}
        self.plain: dict[str, Any] = {}

    def listen(self, endpoint: str, doors: object, plain: dict[str, Any]) -> Deferred[Everything]:
        self.endpoint, self.plain = endpoint, plain
        return succeed(self)

    def getHost(self) -> None: ...

    def start(self) -> Deferred[None]:
        return succeed(None)


def test_what_a_controller_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract §4: controller servers serve join leave move readdress query status, by a clerk of all controllers."""
    everything = Everything()
    asked: list[object] = []
    failures: list[Failure] = []
    monkeypatch.setattr(controller, "network_of", lambda reactor: everything)
    monkeypatch.setattr(controller, "assemble_controller", lambda *args: asked.append(args) or everything)
    monkeypatch.setattr(controller, "controller_clerk", lambda *args: asked.append(args) or everything)
    settings = Settings("controller", Path("d"), "tcp:0:interface=127.0.0.1", node=2, peers=PEERS)
    clock = Clock()
    server = controller.controller_server(settings, clock, failures.append)
    assert asked == []
    assert server.start().called
    assert everything.endpoint == settings.listen
    assert everything.plain.keys() == {"join", "leave", "move", "readdress", "query", "status"}
    assert asked == [(settings, clock, everything, failures.append), (tuple(PEERS.values()), clock, everything)]
