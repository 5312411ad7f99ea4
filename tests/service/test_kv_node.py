from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.errors import GroupExists, Unavailable
from twisted_kv.machines.configuration import Configuration, Member
from twisted_kv.service.node import ANNOUNCE_PAUSE_SECONDS, Announcement, client_endpoint, part
from twisted_kv.service.settings import Settings

HERE = "tcp:127.0.0.1:7000"


class Admin:
    """A controller of one configuration; ``answers`` come before it."""

    def __init__(self, configuration: Configuration, *answers: Any) -> None:
        self.configuration = configuration
        self.answers = list(answers)
        self.calls: list[tuple[Any, ...]] = []

    def query(self, num: int = -1) -> Deferred[Configuration]:
        self.calls.append(("query", num))
        answer = self.answers.pop(0) if self.answers else self.configuration
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Deferred[Configuration]:
            self.calls.append((name, *args))
            return succeed(self.configuration)

        return call


def announce(admin: Admin) -> tuple[Clock, list[Failure], Announcement]:
    clock = Clock()
    failures: list[Failure] = []
    return clock, failures, Announcement(admin, HERE, clock, failures.append)


def listed(*endpoints: str) -> Configuration:
    return Configuration(num=1, shards=(1,), members=(Member(1, 1, endpoints),))


@pytest.mark.parametrize(
    ("configuration", "calls"),
    [
        (Configuration(), [("join", {1: [HERE]})]),
        (listed(HERE), []),
        (listed("tcp:127.0.0.1:1"), [("readdress", 1, [HERE])]),
        (Configuration(num=2), []),
    ],
    ids=["new", "known", "moved", "left"],
)
def test_the_controller_is_told_where_the_node_is(configuration: Configuration, calls: list[Any]) -> None:
    """Contract §1: gid 1 joins by itself, re-announces itself on another port; an administrator's leave stays."""
    admin = Admin(configuration)
    announce(admin)
    assert admin.calls == [("query", -1), *calls]


def test_it_is_told_again_until_the_controller_answers() -> None:
    admin = Admin(Configuration(), Unavailable("forming"), Unavailable("forming"))
    clock, failures, _ = announce(admin)
    assert admin.calls == [("query", -1)]
    clock.pump([ANNOUNCE_PAUSE_SECONDS] * 2)
    assert admin.calls[-1] == ("join", {1: [HERE]})
    assert failures == []
    assert clock.getDelayedCalls() == []


def test_a_refusal_is_asked_again_too() -> None:
    admin = Admin(listed(HERE), GroupExists("other servers"))
    clock, failures, _ = announce(admin)
    clock.advance(ANNOUNCE_PAUSE_SECONDS)
    assert len(admin.calls) == 2
    assert failures == []


def test_closed_it_asks_no_more() -> None:
    admin = Admin(Configuration(), Unavailable("forming"))
    clock, failures, announcement = announce(admin)
    assert announcement.close().called
    assert clock.getDelayedCalls() == []
    assert failures == []


def test_a_bug_is_not_asked_again() -> None:
    clock, failures, _ = announce(Admin(Configuration(), ZeroDivisionError()))
    assert failures[0].check(ZeroDivisionError)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        (IPv4Address("TCP", "127.0.0.1", 7000), "tcp:127.0.0.1:7000"),
        (IPv4Address("TCP", "0.0.0.0", 7001), "tcp:127.0.0.1:7001"),
        (IPv6Address("TCP", "::1", 7000), r"tcp:\:\:1:7000"),
        (IPv6Address("TCP", "::", 7000), r"tcp:\:\:1:7000"),
        (UNIXAddress("/run/kv:1"), r"unix:/run/kv\:1"),
    ],
)
def test_the_endpoint_of_a_bound_address(host: Any, endpoint: str) -> None:
    """Contract §1: --advertise is derived from --listen; with port 0 from the real one."""
    assert client_endpoint(host) == endpoint
    clientFromString(Clock(), endpoint)


def test_the_two_parts_of_a_node() -> None:
    """Contract §1: the same files as a cluster, in DIR/controller and DIR/group."""
    settings = Settings("node", Path("/d"), "tcp:0", shards=7, log_bytes_max=3)
    controller, group = part(settings, "controller", HERE), part(settings, "group", HERE)
    assert (controller.data, group.data) == (Path("/d/controller"), Path("/d/group"))
    assert (controller.gid, group.gid) == (0, 1)
    assert (controller.controllers, group.controllers) == ((), (HERE,))
    assert dict(controller.peers) == dict(group.peers) == {1: HERE}
    assert replace(controller, kind="node", data=Path("/d"), peers=settings.peers) == settings
