from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from twisted_kv.admin import tour
from twisted_kv.admin.render import Progress
from twisted_kv.admin.running import Refusal
from twisted_kv.admin.tour import Tour, demo, texts_of_python
from twisted_kv.errors import OutcomeUnknown, Unavailable
from twisted_kv.interfaces import NotSent
from twisted_kv.machines.configuration import Configuration, Member
from twisted_kv.machines.rebalance import rebalance

SHARDS = 16
WRITE_SECONDS = 0.01


class Child:
    def __init__(self, name: str) -> None:
        self.name = self.endpoint = name
        self.running = True

    def kill(self, signum: int) -> None:
        assert signum == signal.SIGKILL
        self.running = False

    def gone(self) -> Deferred[None]:
        assert not self.running
        return succeed(None)


class World:
    """A cluster that does what it should, in virtual time; the first server that runs leads."""

    def __init__(self, reactor: Any = None, directory: Path | None = None) -> None:
        self.clock = reactor or Clock()
        self.directory = directory or Path("/none")
        self.controllers: list[Child] = []
        self.groups: dict[int, list[Child]] = {}
        self.configuration_now = Configuration(shards=(0,) * SHARDS)
        self.data: dict[str, str] = {}
        self.lost: str | None = None
        self.writes: Exception | None = None
        self.stopped = 0

    # What the tour does with processes.

    def start_controllers(self, count: int) -> None:
        self.controllers = [Child(f"controller-{node}") for node in range(1, count + 1)]

    def start_group(self, gid: int, count: int) -> None:
        self.groups[gid] = [Child(f"group-{gid}-{node}") for node in range(1, count + 1)]

    def spawn(self, child: Child) -> None:
        assert not child.running
        child.running = True

    @property
    def controller_endpoints(self) -> list[str]:
        return [child.endpoint for child in self.controllers]

    def endpoints(self, gid: int) -> list[str]:
        return [child.endpoint for child in self.groups[gid]]

    def stop(self) -> Deferred[None]:
        self.stopped += 1
        return succeed(None)

    # What it asks the servers.

    def ask(self, endpoint: str, name: str, *arguments: Any, timeout: float) -> Deferred[Any]:
        for gid, children in {0: self.controllers, **self.groups}.items():
            running = [child for child in children if child.running]
            for child in running:
                if child.endpoint == endpoint:
                    role = "leader" if child is running[0] else "follower"
                    owned = self.configuration_now.shards.count(gid) if gid else 0
                    return succeed({"role": role, "term": 1, "shards": owned, "migrations": 0, "keys": owned})
        return fail(NotSent())

    # What it asks Clerks.

    def put(self, key: str, value: str) -> Deferred[None]:
        if self.writes is not None:
            return fail(self.writes)
        self.data[key] = value
        return deferLater(self.clock, WRITE_SECONDS)

    def get(self, key: str) -> Deferred[Any]:
        return succeed("" if key == self.lost else self.data[key])

    def configuration(self) -> Deferred[Configuration]:
        return succeed(self.configuration_now)

    def join(self, groups: dict[int, list[str]]) -> Deferred[Configuration]:
        joined = {member.gid: member for member in self.configuration_now.members}
        joined |= {gid: Member(gid, 1, tuple(endpoints)) for gid, endpoints in groups.items()}
        return self._change(joined)

    def leave(self, gids: list[int]) -> Deferred[Configuration]:
        return self._change({m.gid: m for m in self.configuration_now.members if m.gid not in gids})

    def _change(self, members: dict[int, Member]) -> Deferred[Configuration]:
        before = self.configuration_now
        shards = tuple(rebalance(before.shards, sorted(members)))
        self.configuration_now = Configuration(before.num + 1, shards, tuple(members.values()))
        return deferLater(self.clock, 10 * WRITE_SECONDS).addCallback(lambda _: self.configuration_now)

    def close(self) -> Deferred[None]:
        return succeed(None)

    def result(self, work: Any) -> Any:
        ended: list[Any] = []
        ensureDeferred(work).addBoth(ended.append)
        for _ in range(100_000):
            if ended:
                break
            self.clock.advance(WRITE_SECONDS)
        if isinstance(ended[0], Failure):
            ended[0].raiseException()
        return ended[0]


@contextmanager
def no_bar(title: str, total: int) -> Iterator[Progress]:
    yield lambda done: None


def walk(world: World) -> list[str]:
    said: list[str] = []
    guide = Tour(world.clock, world, world, lambda _: world, lambda _: world, said.append, no_bar)  # type: ignore[arg-type]
    world.result(guide.walk({f"text/{number}": "x" * number for number in range(600)}))
    return said


def test_all_stations_with_their_times() -> None:
    """Contract §2: prints what it does and how long each took."""
    world = World()
    said = walk(world)
    assert len(said) == 16
    assert all(line.endswith(" s)") for line in said[1::2])
    story = "\n".join(said)
    for word in (
        "9 processes",
        "loading 600 texts",
        "SIGKILL",
        "group-100-1 is dead; group-100-2 leads",
        "102",
        "leaves",
    ):
        assert word in story
    assert world.configuration_now.groups.keys() == {100, 102}
    assert all(child.running for children in world.groups.values() for child in children)


def test_it_writes_while_shards_move() -> None:
    """Contract §2: join a third group and watch shards move while writing."""
    world = World()
    said = walk(world)
    assert sum(key.startswith("tour/moving/") for key in world.data) >= 5
    assert "shards moved" in said[11]
    assert "writes meanwhile" in said[11]
    assert "holds nothing more" in said[13]


def test_a_value_that_is_not_read_back_is_a_failure() -> None:
    """Contract §2: exit 1 unless every value was read back."""
    world = World()
    world.lost = "text/7"
    with pytest.raises(Refusal, match=r"1 of 600 .*text/7"):
        walk(world)


def test_a_cluster_that_does_not_come_up_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "PATIENCE_SECONDS", 0.0)
    world = World()
    monkeypatch.setattr(world, "ask", lambda *args, **kwargs: fail(NotSent()))
    with pytest.raises(Refusal, match="controller has a leader"):
        walk(world)


class Stage:
    """``demo`` with a cluster of fakes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.worlds: list[World] = []
        self.said: list[str] = []
        self.clock = Clock()
        self.directory = tmp_path / "demo"
        self.directory.mkdir()
        monkeypatch.setattr(tour.tempfile, "mkdtemp", lambda prefix: str(self.directory))
        monkeypatch.setattr(tour, "Cluster", self.make)
        monkeypatch.setattr(tour, "PBNetwork", lambda reactor: self.worlds[0])
        monkeypatch.setattr(tour, "texts_of_python", lambda: {"a": "text"})

    def make(self, reactor: Any, directory: Path) -> World:
        self.worlds.append(World(reactor, directory))
        return self.worlds[0]

    def demo(self, keep: bool = False) -> Deferred[None]:
        return ensureDeferred(
            demo(self.clock, lambda _: self.worlds[0], lambda _: self.worlds[0], self.said.append, no_bar, keep)
        )


def test_everything_is_stopped_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = Stage(monkeypatch, tmp_path)
    done = stage.demo()
    while not done.called:
        stage.clock.advance(WRITE_SECONDS)
    assert stage.worlds[0].stopped == 1
    assert not stage.directory.exists()
    assert "every value was read back" in stage.said[-1]


def test_kept_until_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Contract §2: --keep leaves it up and says how to talk to it; Ctrl-C stops all of it."""
    stage = Stage(monkeypatch, tmp_path)
    done = stage.demo(keep=True)
    for _ in range(1000):
        stage.clock.advance(WRITE_SECONDS)
    assert not done.called
    assert "TWISTED_KV_CONTROLLERS=controller-1,controller-2,controller-3" in stage.said[-2]
    assert stage.worlds[0].stopped == 0
    done.addErrback(lambda failure: None)
    done.cancel()
    assert done.called
    assert stage.worlds[0].stopped == 1
    assert not stage.directory.exists()


@pytest.mark.parametrize("error", [Unavailable("nobody"), OutcomeUnknown("lost")])
def test_any_failure_is_a_no_and_leaves_the_logs(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Contract §2: exit 1 unless every value was read back, whatever kept it from that. The logs stay."""
    stage = Stage(monkeypatch, tmp_path)
    failures: list[Failure] = []
    done = stage.demo()
    done.addErrback(failures.append)
    stage.worlds[0].writes = error
    while not done.called:
        stage.clock.advance(WRITE_SECONDS)
    assert failures[0].check(Refusal)
    assert str(stage.directory) in failures[0].getErrorMessage()
    assert stage.worlds[0].stopped == 1
    assert stage.directory.exists()


def test_there_is_real_text_enough() -> None:
    """The demo loads a few hundred keys of what ships with Python."""
    texts = texts_of_python()
    assert len(texts) > 300
    assert any("lambda" in text for text in texts.values())
