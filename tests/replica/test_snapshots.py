"""Rows of a checkpoint are served in chunks from one moment, for a bounded time, to members of the same group."""

import pytest
from replica_stage import InlineDisk
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from twisted_kv.machines.rows import Row, RowKey
from twisted_kv.replica.snapshots import SNAPSHOT_SECONDS_MAX, SNAPSHOTS_MAX, Snapshots
from twisted_kv.storage.directory import open_directory
from twisted_kv.transport.wire import ROWS_ANSWER, ROWS_REQUEST, RowsRequest

ROWS = [Row(0, 1, "key", f"k{place:03}", "v" * 100) for place in range(50)]


@pytest.fixture
def scene(tmp_path):
    directory = open_directory(str(tmp_path / "d"), synchronous="OFF", ballast_bytes=0)
    write(directory, ROWS, 9)
    clock = Clock()
    snapshots = Snapshots(7, directory.data, InlineDisk(), clock)
    yield snapshots, directory, clock
    snapshots.stop()
    directory.close()
    assert clock.getDelayedCalls() == []


def write(directory, rows, index):
    checkpoint = directory.data.checkpoint()
    checkpoint.write(rows)
    checkpoint.commit(index, 2)


def ask(snapshots, number=0, after=None, gid=7):
    body = ROWS_REQUEST.encode(RowsRequest(gid, number, after, 1000))
    return ROWS_ANSWER.decode(snapshots.answer(body).result)


def test_chunks_are_of_one_moment_while_writes_go_on(scene):
    """Hazard 31: a second checkpoint during the transfer does not show in it."""
    snapshots, directory, _ = scene
    answer = ask(snapshots)
    got = list(answer.rows)
    write(directory, [Row(0, 1, "key", "k049", "changed"), Row(0, 1, "key", "new", "x")], 10)
    while not answer.last:
        answer = ask(snapshots, answer.snapshot, got[-1].key)
        assert (answer.index, answer.term) == (9, 2)
        got += answer.rows
    assert got == ROWS


def test_expired_snapshot_says_so(scene):
    snapshots, _, clock = scene
    answer = ask(snapshots)
    clock.advance(SNAPSHOT_SECONDS_MAX + 1)
    assert ask(snapshots, answer.snapshot, answer.rows[-1].key).snapshot == 0


def test_another_group_and_nonsense_get_nothing(scene):
    snapshots, _, _ = scene
    assert ask(snapshots, gid=8).snapshot == 0
    assert ROWS_ANSWER.decode(snapshots.answer(b"nonsense").result).snapshot == 0
    beyond = RowKey((1 << 64) - 1, 0, "", "")  # a body can carry it, SQLite cannot
    assert ask(snapshots, after=beyond).snapshot == 0


def test_readers_are_bounded(scene):
    """The oldest gives way."""
    snapshots, _, _ = scene
    first = ask(snapshots)
    for _ in range(SNAPSHOTS_MAX):
        ask(snapshots)
    assert ask(snapshots, first.snapshot, first.rows[-1].key).snapshot == 0


class SlowDisk:
    """An IDisk that runs its work, in order, when told to."""

    def __init__(self):
        self._waiting = []

    def run(self, work):
        done = Deferred()
        self._waiting.append((work, done))
        return done

    def work(self):
        while self._waiting:
            work, done = self._waiting.pop(0)
            execute(work).chainDeferred(done)


def test_a_snapshot_is_closed_behind_what_was_asked_of_it(tmp_path, logged_errors):
    """Found by simulation (plan elections, seed 3): a request that came twice ended the snapshot under its twin,
    whose read of the closed connection then looked like damage."""
    directory = open_directory(str(tmp_path / "d"), synchronous="OFF", ballast_bytes=0)
    write(directory, ROWS[:3], 9)
    disk = SlowDisk()
    snapshots = Snapshots(7, directory.data, disk, Clock())

    def answers(*requests):
        deferreds = [snapshots.answer(ROWS_REQUEST.encode(RowsRequest(7, *request))) for request in requests]
        disk.work()
        return [ROWS_ANSWER.decode(deferred.result) for deferred in deferreds]

    (first,) = answers((0, None, 1000))
    assert len(first.rows) == 3
    last = (first.snapshot, first.rows[-1].key, 1000)
    once, twice = answers(last, last)
    assert once.last and twice.last
    snapshots.stop()
    disk.work()
    directory.close()
    assert not logged_errors


def test_the_next_chunk_is_read_while_one_is_on_its_way(scene):
    """So a way there and back is not added to the time of reading; and it is read once."""
    snapshots, _, clock = scene
    answer = ask(snapshots)
    (opened,) = snapshots._open.values()
    read, reads = opened.snapshot.rows, []
    opened.snapshot.rows = lambda after, size: (reads.append(after), read(after, size))[1]
    got = list(answer.rows)
    while not answer.last:
        clock.advance(0)
        asked = len(reads)
        answer = ask(snapshots, answer.snapshot, got[-1].key if got else None)
        assert len(reads) == asked
        got += answer.rows
    assert got == ROWS
    assert len(reads) == len(set(reads))


def test_what_was_read_ahead_and_is_not_asked_for_is_given_up(scene):
    """Another place, or the same one twice; a snapshot that has been damaged meanwhile says so to whoever asks."""
    snapshots, _, clock = scene
    first = ask(snapshots)
    clock.advance(0)
    assert ask(snapshots, first.snapshot, first.rows[0].key).rows[0] == first.rows[1]
    clock.advance(0)
    assert ask(snapshots, first.snapshot, None).rows == first.rows
    (opened,) = snapshots._open.values()
    opened.snapshot.rows = lambda after, size: 1 / 0
    clock.advance(0)
    snapshots.stop()
