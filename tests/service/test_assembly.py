from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import NotSent
from twisted_kv.replica.doors import FORWARDED
from twisted_kv.service import assembly
from twisted_kv.service.assembly import CORES, assemble_controller, assemble_group, fresh_random
from twisted_kv.service.settings import Settings
from twisted_kv.storage.disk import InlineDisk
from twisted_kv.transport import wire


class Alone:
    """A network with nobody in it."""

    def send(self, endpoint: str, verb: str, body: bytes) -> None: ...

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        return fail(NotSent())

    def close(self) -> Deferred[None]:
        return succeed(None)


class Disk(InlineDisk):
    """Notes whether it was closed."""

    closed = 0

    def close(self) -> Deferred[None]:
        type(self).closed += 1
        return succeed(None)


@pytest.fixture(autouse=True)
def inline_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk.closed = 0
    monkeypatch.setattr(assembly, "choose_disk", lambda path, reactor: Disk())


def settings(kind: Any, data: Path, **changes: Any) -> Settings:
    given = {"node": 1, "peers": MappingProxyType({1: "tcp:a:1"}), "gid": 7 if kind == "group" else 0} | changes
    return Settings(kind, data, "tcp:0", controllers=("tcp:c:1",), **given)


ASSEMBLE = {"controller": assemble_controller, "group": assemble_group}


@pytest.mark.parametrize("kind", ["controller", "group"])
def test_a_member_of_one_forms_and_leads(kind: str, tmp_path: Path) -> None:
    """Contract §1: the same corridor for both; one replica is a group too."""
    clock = Clock()
    failures: list[Failure] = []
    member = ASSEMBLE[kind](settings(kind, tmp_path / "d"), clock, Alone(), failures.append)
    started = member.start()
    clock.pump([0.05] * 60)
    assert started.called
    assert failures == []
    status = member.status()
    assert (status["kind"], status["role"], status["leader"], status["voter"]) == (kind, "leader", 1, True)
    contract = {"node", "role", "term", "leader", "applied", "keys", "bytes", "shards", "migrations", "voter"}
    assert contract <= status.keys()
    stopped = member.stop()
    clock.pump([0.05] * 10)
    assert stopped.called
    assert Disk.closed == 2
    assert clock.getDelayedCalls() == []


def test_the_doors_are_those_of_its_kind(tmp_path: Path) -> None:
    """Hazard S7: a controller has no door for data, a group none for configurations."""
    peers = {wire.PEER_HELLO, wire.PEER_STEP, wire.PEER_ROWS, wire.WHO}
    controller = assemble_controller(settings("controller", tmp_path / "c"), Clock(), Alone(), lambda failure: None)
    group = assemble_group(settings("group", tmp_path / "g"), Clock(), Alone(), lambda failure: None)
    try:
        asked = {wire.CTL_ENROLL, wire.CTL_CHANGE, wire.CTL_QUERY, wire.CTL_CLAIM}
        forwarded = {FORWARDED + verb for verb in asked}
        assert controller.doors.keys() - peers == asked | forwarded | {wire.CTL_NEXT}
        assert group.doors.keys() - peers == {
            wire.KV_WRITE,
            wire.KV_READ,
            wire.KV_OPEN,
            wire.KV_SCAN,
            wire.SHARD_PULL,
            wire.SHARD_DROP,
        }
    finally:
        controller.stop()
        group.stop()


@pytest.mark.parametrize(
    ("kind", "changes", "line"),
    [
        ("group", {"node": 2, "peers": {2: "tcp:a:1"}}, "node 1, not 2"),
        ("group", {"gid": 8}, "gid 7, not 8"),
        ("controller", {}, "kind group, not controller"),
    ],
)
def test_the_directory_of_another_is_refused(kind: str, changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    """Contract §1, hazard 37: one clear line; and the directory can be opened again by its owner."""
    owner = settings("group", tmp_path / "d")
    assemble_group(owner, Clock(), Alone(), lambda failure: None).stop()
    with pytest.raises(StartRefused, match=line):
        ASSEMBLE[kind](settings(kind, tmp_path / "d", **changes), Clock(), Alone(), lambda failure: None)
    assemble_group(owner, Clock(), Alone(), lambda failure: None).stop()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    member = assemble_group(settings("group", tmp_path / "d"), Clock(), Alone(), lambda failure: None)
    try:
        with pytest.raises(StartRefused, match="in use"):
            assemble_group(settings("group", tmp_path / "d"), Clock(), Alone(), lambda failure: None)
    finally:
        member.stop()


def test_every_kind_of_consensus_is_known_here() -> None:
    assert CORES.keys() == {"raft"}


def test_every_process_draws_its_own_numbers() -> None:
    """Hazard 42: two servers with the same ids would answer for each other."""
    assert fresh_random().getrandbits(128) != fresh_random().getrandbits(128)
