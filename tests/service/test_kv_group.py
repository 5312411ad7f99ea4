from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.service import group
from twisted_kv.service.settings import Settings


class Everything:
    """A network, a member and a clerk in one; the test looks at who was made of what."""

    replica = None

    def __init__(self) -> None:
        self.doors = {"kv_write": succeed}
        self.plain: dict[str, Any] = {}

    def listen(self, endpoint: str, doors: object, plain: dict[str, Any]) -> Deferred[Everything]:
        self.plain = plain
        return succeed(self)

    def getHost(self) -> None: ...

    def start(self) -> Deferred[None]:
        return succeed(None)

    def status(self) -> dict[str, object]:
        return {"node": 2}


def test_what_a_group_server_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract §4: group servers serve get put append delete put_hash status, by a clerk of the controllers."""
    everything = Everything()
    asked: list[object] = []
    failures: list[Failure] = []
    monkeypatch.setattr(group, "network_of", lambda reactor: everything)
    monkeypatch.setattr(group, "assemble_group", lambda *args: asked.append(args) or everything)
    monkeypatch.setattr(group, "key_clerk", lambda *args: asked.append(args) or everything)
    settings = Settings("group", Path("d"), "tcp:0", gid=7, node=2, peers={2: "tcp:b:1"}, controllers=("tcp:c:1",))
    clock = Clock()
    group.group_server(settings, clock, failures.append).start()
    assert everything.plain.keys() == {"get", "put", "append", "delete", "put_hash", "status"}
    assert everything.plain["status"]() == {"node": 2, "stall_ms": 0.0, "stall_longest_ms": 0.0}
    assert asked == [(settings, clock, everything, failures.append), (("tcp:c:1",), clock, everything)]
