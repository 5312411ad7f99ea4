"""Rows of a peer replace everything here, data before log, or change nothing (house.md, two files, one order)."""

from collections import deque

import pytest
from replica_stage import InlineDisk, ToldDisk, one_turn
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock

from twisted_kv.consensus.types import (
    Entry,
    HardState,
    Position,
    Ready,
    Role,
    SnapshotFailed,
    SnapshotInstalled,
    SnapshotSource,
    Standing,
)
from twisted_kv.interfaces import LostAnswer
from twisted_kv.machines.rows import Row
from twisted_kv.replica.checkpoints import NEVER, Checkpoints
from twisted_kv.storage.directory import open_directory
from twisted_kv.transport.wire import ROWS_ANSWER, RowsAnswer


class Corridor:
    """As much of a replica as an installation touches; ``told`` keeps the order."""

    def __init__(self, told, applied, term):
        self.applied = applied
        self.standing = Standing(Role.FOLLOWER, term, 2)
        self.told = told

    def hold(self):
        self.told.append("held")
        return succeed(None)

    def release(self, applied):
        self.told.append(("released", applied))

    def step(self, message):
        self.told.append(message)


class Memory:
    def __init__(self):
        self.rows = {"stale": "of this replica"}

    def clear(self):
        self.rows.clear()

    def load(self, rows):
        self.rows.update({row.name: row.value for row in rows})

    def take_changes(self):
        return None


class Peer:
    """Sends its rows in one chunk, then the end."""

    def __init__(self, index, term):
        self.answers = [
            RowsAnswer(1, index, term, (Row(0, 1, "key", "fresh", "of the peer"),), False),
            RowsAnswer(1, index, term, (), True),
        ]

    def call(self, *_):
        return succeed(ROWS_ANSWER.encode(self.answers.pop(0)))


class Scene:
    """A replica at index 3 of term 2 whose log holds entries up to 4, asked to fetch."""

    def __init__(self, path):
        self.directory = open_directory(str(path), synchronous="OFF", ballast_bytes=0)
        self.log, self.data = self.directory.log, self.directory.data
        entries = tuple(Entry(index, 1, (b"c",)) for index in range(1, 5))
        self.log.save(Ready(hard_state=HardState(2, 3), entries=entries))
        checkpoint = self.data.checkpoint()
        checkpoint.write([Row(0, 1, "key", "stale", "of this replica")])
        checkpoint.commit(3, 1)
        self.told = []
        self.memory = Memory()

    def fetch(self, index, term, peer=None, disk=None, failed=None):
        disk, clock = disk or InlineDisk(), Clock()
        corridor = Corridor(self.told, 3, 2)
        for place, store in (("log", self.log), ("data", self.data)):
            self._listen(place, store)
        peer = peer or Peer(index, term)
        checkpoints = Checkpoints(
            7, corridor, self.memory, self.log, self.data, InlineDisk(), disk, peer, clock, NEVER, None, failed
        )
        checkpoints.fetch(SnapshotSource(2, index, term), "tcp:peer")
        for _ in range(20):
            clock.advance(0)
        return checkpoints

    def _listen(self, place, store):
        if place == "log":
            reset = store.reset
            store.reset = lambda *where: (self.told.append("log reset"), reset(*where))
            return
        begin = store.checkpoint

        def checkpoint(*fresh):
            made = begin(*fresh)
            commit = made.commit
            made.commit = lambda *where: (commit(*where), self.told.append("rows durable"))[0]
            return made

        store.checkpoint = checkpoint

    def on_disk(self):
        return {row.name for row in self.data.rows(None, 1 << 20)}


@pytest.fixture
def scene(tmp_path):
    made = Scene(tmp_path / "d")
    yield made
    made.directory.close()


def test_hazard_31_rows_are_durable_before_the_log_is_reset_and_both_before_anybody_goes_on(scene):
    scene.fetch(9, 2)
    assert scene.told == ["held", "rows durable", "log reset", ("released", 9), SnapshotInstalled(9, 2)]


def test_hazard_31_nothing_of_the_old_state_is_left(scene):
    """Neither in memory nor in the rows, and no entry of the log; term and vote stay (hazard 2)."""
    scene.fetch(9, 2)
    assert scene.memory.rows == {"fresh": "of the peer"}
    assert scene.on_disk() == {"fresh"}
    restored = scene.log.restore()
    assert (restored.hard_state, restored.boundary, restored.entries) == (HardState(2, 3), Position(9, 2), ())


def test_hazard_15_rows_of_a_term_that_was_not_heard_of_are_refused(scene):
    """The peer has lost its leadership meanwhile. Installed, they would look like damage at the next start."""
    scene.fetch(9, 3)
    assert scene.told == ["held", ("released", 3), SnapshotFailed()]
    assert scene.on_disk() == {"stale"} == set(scene.memory.rows)
    assert scene.log.restore().entries[-1].index == 4


def test_hazard_31_rows_that_are_no_newer_are_refused(scene):
    scene.fetch(3, 1)
    assert scene.told == ["held", ("released", 3), SnapshotFailed()]
    assert scene.data.position() == (3, 1)


class Stream(Peer):
    """Sends a row a chunk; ``asked`` counts the requests."""

    def __init__(self, index, term, count):
        self.asked = 0
        rows = [(Row(0, 1, "key", f"k{place}", "of the peer"),) for place in range(count)]
        self.answers = [RowsAnswer(1, index, term, row, False) for row in rows]
        self.answers.append(RowsAnswer(1, index, term, (), True))

    def call(self, *_):
        self.asked += 1
        return super().call() if self.answers else fail(LostAnswer("the connection is gone"))


def test_a_chunk_is_asked_for_while_the_one_before_is_written(scene):
    """What the disk takes and what the way takes are not added up; no more than two chunks wait here."""
    disk, peer = ToldDisk(), Stream(9, 2, 3)
    checkpoints = scene.fetch(9, 2, peer, disk)
    disk.finish()  # the transaction is open
    seen = []
    while peer.asked < 4:
        seen.append((peer.asked, len(disk.waiting), checkpoints.status()["fetched_bytes"] > 0))
        disk.finish()
    assert seen == [(2, 1, True), (3, 1, True)]
    assert scene.told == []


def test_hazard_27_a_chunk_that_could_not_be_written_stops_the_replica(scene):
    """Also if the peer is gone by then: what became of the write is unknown."""
    disk, peer, failures = ToldDisk(), Stream(9, 2, 3), []
    del peer.answers[1:]
    scene.fetch(9, 2, peer, disk, failures.append)
    disk.finish()
    disk.finish(OSError(5, "EIO"))
    assert [failure.type for failure in failures] == [OSError]


def test_rows_that_came_are_not_read_again(scene, monkeypatch):
    """The memory is made of what was written."""
    monkeypatch.setattr(scene.data, "rows", None)
    scene.fetch(9, 2)
    assert scene.memory.rows == {"fresh": "of the peer"}


def test_rows_that_came_in_vain_are_freed_a_chunk_a_turn(scene):
    """A million of them at once would hold up whoever asks."""
    chunks = deque([(Row(0, 1, "key", f"k{place}", "v"),) for place in range(5)])
    checkpoints = scene.fetch(3, 1)
    clock = checkpoints._clock
    checkpoints._discard(chunks)
    seen = [len(chunks)]
    while chunks:
        one_turn(clock)
        seen.append(len(chunks))
    assert seen == [4, 3, 2, 1, 0]
    one_turn(clock)
    assert clock.getDelayedCalls() == []
