"""Twenty workloads, by name: what programs do with a replica's directory. Here those that use the stores directly.

A workload is one or more lives of a process, each run in a fork of its own; between two lives everything that was not
closed is left as it was. Each life marks what it is about to write and what has returned, so that every crash point
knows what was acknowledged before it. Sizes are small and limits are set low on purpose (a write-ahead log is moved
after 48 KiB instead of 1 MiB, SQLite's cache holds ten pages where a transaction is to spill), so that every way of
the disk's is taken in some hundred calls.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from crash_belief import Data, Log, digest, entry_facts, value_facts
from crash_boot import Seat
from crash_judge import BALLAST_BYTES, Machine, all_rows
from crash_recording import Recorder

from twisted_kv.consensus.types import Entry, HardState, Ready, Restored
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.machines.rows import Row
from twisted_kv.storage import sqlite_file
from twisted_kv.storage.directory import ReplicaDirectory, open_directory

MOVE_BYTES: Final = 48 * 1024
TRIES: Final = 3
"""How often a workload that uses the stores itself tries again when the disk is full."""


class GaveUp(Exception):
    """The disk stayed full."""


class StartBroke(Exception):
    """Opening raised something else than StartRefused."""


class Workload(NamedTuple):
    """One of the twenty.

    Attributes:
        lives: run one after the other, each given the recorder and the directory's path.
        machine: makes the machine of its member, None if there is none, or if nobody knows what is committed.
        seat: whose directory it is; None if no member could be booted on what the workload writes.
    """

    name: str
    lives: Sequence[Callable[[Recorder, str], None]]
    machine: Machine | None = None
    seat: Seat | None = None


class MarkedLog:
    """An ILogStore that marks what it is asked and what came of it."""

    def __init__(self, log: Any, recorder: Recorder) -> None:
        self._log = log
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def bind(self, identity: Mapping[str, str]) -> None:
        self._marked(["bind", dict(identity)], self._log.bind, identity)

    def save(self, ready: Ready) -> None:
        hard_state = None if ready.hard_state is None else (ready.hard_state.term, ready.hard_state.vote)
        effect = ["save", hard_state, ready.cut, [entry_facts(entry) for entry in ready.entries]]
        self._marked(effect, self._log.save, ready)

    def trim(self, index: int, term: int, rows_max: int) -> bool:
        return bool(self._marked(["trim", index, term], self._log.trim, index, term, rows_max))

    def reset(self, index: int, term: int) -> None:
        self._marked(["reset", index, term], self._log.reset, index, term)

    def _marked(self, effect: list[Any], write: Callable[..., Any], *arguments: Any) -> Any:
        return marked(self._recorder, "log", effect, write, *arguments)


class MarkedData:
    """An IDataStore, the same."""

    def __init__(self, data: Any, recorder: Recorder) -> None:
        self._data = data
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def checkpoint(self, fresh: bool = False) -> MarkedCheckpoint:
        return MarkedCheckpoint(self._data.checkpoint(fresh), fresh, self._recorder)


class MarkedCheckpoint:
    """An ICheckpoint: nothing counts before its commit."""

    def __init__(self, checkpoint: Any, fresh: bool, recorder: Recorder) -> None:
        self._checkpoint = checkpoint
        self._fresh = fresh
        self._recorder = recorder
        self._steps: list[list[Any]] = []

    def write(self, rows: Sequence[Row]) -> None:
        changed = {(row.shard, row.num, row.space, row.name): row.value for row in rows}
        facts = [[key, None if value is None else value_facts(value)] for key, value in changed.items()]
        self._steps.append(["write", facts])
        self._checkpoint.write(rows)

    def drop(self, shard: int, num: int, rows_max: int) -> bool:
        self._steps.append(["drop", shard, num, rows_max])
        return bool(self._checkpoint.drop(shard, num, rows_max))

    def commit(self, index: int, term: int) -> None:
        effect = ["commit", index, term, self._fresh, self._steps]
        marked(self._recorder, "data", effect, self._checkpoint.commit, index, term)

    def abort(self) -> None:
        self._checkpoint.abort()


def marked(recorder: Recorder, file: str, effect: list[Any], write: Callable[..., Any], *arguments: Any) -> Any:
    """Mark, write, mark what the store says of it."""
    recorder.mark("try", file, effect)
    try:
        answer = write(*arguments)
    except SaveRefused:
        recorder.mark("refused", file)
        raise
    except (sqlite3.Error, OSError):
        recorder.mark("unknown", file)
        raise
    recorder.mark("done", file)
    return answer


class MarkedDirectory:
    """An open directory with marked stores.

    Args:
        path: opened by the production code; what it found is marked.
        spilling: whether transactions larger than ten pages are written before they commit.
    """

    def __init__(self, recorder: Recorder, path: str, spilling: bool = False) -> None:
        sqlite_file._MOVE_BYTES = MOVE_BYTES  # type: ignore[misc]
        try:
            self.directory: ReplicaDirectory = open_directory(path, ballast_bytes=BALLAST_BYTES)
        except StartRefused:
            raise
        except Exception as error:
            raise StartBroke from error
        self.recorder = recorder
        self.log = MarkedLog(self.directory.log, recorder)
        self.data = MarkedData(self.directory.data, recorder)
        if spilling:
            for store in (self.directory.log, self.directory.data):
                store._file.connection.execute("PRAGMA cache_size = 10")
        restored: Restored = self.log.restore()
        log = Log.found(restored, self.log.identity().items())
        data = Data.found(self.data.position(), all_rows(self.directory))
        recorder.mark("opened", digest(log), digest(data))

    def release_ballast(self) -> None:
        self.directory.release_ballast()

    def reserve_ballast(self) -> bool:
        return self.directory.reserve_ballast()

    def close(self) -> None:
        self.directory.close()


class Stores(MarkedDirectory):
    """Short words for the scripts below; a full disk is met as the replica meets it: make room, try again.

    A save is tried again by itself. What of a checkpoint finds no room undoes all of it, so the whole of it is begun
    anew with the rows that it had (replica/checkpoints: they are kept for the next one).
    """

    def vote(self, term: int, vote: int) -> None:
        self.insist(lambda: self.log.save(Ready(hard_state=HardState(term, vote))))

    def append(self, first: int, count: int, term: int, size: int = 100, **ready: Any) -> None:
        """``count`` entries from ``first`` on, in one save."""
        made = tuple(Entry(index, term, (filling(f"{index}/{term}", size),)) for index in range(first, first + count))
        self.insist(lambda: self.log.save(Ready(entries=made, **ready)))

    def trim(self, index: int, term: int, rows_max: int = 500) -> None:
        self.insist(lambda: self._trimmed(index, term, rows_max))

    def _trimmed(self, index: int, term: int, rows_max: int) -> None:
        while not self.log.trim(index, term, rows_max):
            pass

    def reset(self, index: int, term: int) -> None:
        self.insist(lambda: self.log.reset(index, term))

    def bind(self, **facts: str) -> None:
        self.insist(lambda: self.log.bind(facts))

    def checkpoint(
        self, index: int, term: int, *slices: Iterable[Row], fresh: bool = False, drops: Sequence[tuple[int, int]] = ()
    ) -> None:
        """One checkpoint, a write for each of the slices."""

        def write() -> None:
            checkpoint = self.data.checkpoint(fresh)
            for shard, num in drops:
                while not checkpoint.drop(shard, num, 7):
                    pass
            for rows in slices:
                checkpoint.write(list(rows))
            checkpoint.commit(index, term)

        self.insist(write)

    def insist(self, write: Callable[[], None]) -> None:
        """Do it; if there is no room, make some and do it again."""
        for _ in range(TRIES):
            try:
                write()
                return
            except SaveRefused:
                self.release_ballast()
                self.reserve_ballast()
        raise GaveUp


def filling(name: str, size: int) -> bytes:
    """Bytes that say what they are, all the way through."""
    return (name.encode() * (size // len(name) + 1))[:size]


def keys(first: int, count: int, tag: str, size: int = 60, shard: int = 0, num: int = 1) -> list[Row]:
    """Rows of keys; every third value is text."""
    made = []
    for number in range(first, first + count):
        value = filling(f"{number}{tag}", size)
        made.append(Row(shard, num, "key", f"k{number:04}", value.decode() if number % 3 == 0 else value))
    return made


def gone(first: int, count: int) -> list[Row]:
    """Rows that delete."""
    return [Row(0, 1, "key", f"k{number:04}", None) for number in range(first, first + count)]


# ── the scripts ─────────────────────────────────────────────────────────────────────────────────────


def votes(stores: Stores) -> None:
    for term in range(1, 21):
        stores.vote(term, 0)
        if term % 2:
            stores.vote(term, 1 + term % 3)


def appends(stores: Stores) -> None:
    stores.append(1, 1, 1, hard_state=HardState(1, 1))
    for number in range(12):
        stores.append(2 + 2 * number, 2, 1)
    stores.append(26, 150, 1, size=60)  # several statements in one transaction
    stores.append(176, 1, 2, hard_state=HardState(2, 0))


def cuts(stores: Stores) -> None:
    stores.append(1, 10, 1, hard_state=HardState(1, 1))
    for term in range(2, 12):
        stores.append(term, 8 if term % 2 else 3, term, cut=term, hard_state=HardState(term, 0))


def big_entries(stores: Stores) -> None:
    stores.append(1, 1, 1, hard_state=HardState(1, 1))
    for number, size in enumerate((20_000, 40_000, 3, 70_000, 4_096, 30_000)):
        stores.append(2 + number, 1, 1, size=size)
    stores.append(5, 2, 2, size=25_000, cut=5, hard_state=HardState(2, 3))


def trims(stores: Stores) -> None:
    stores.append(1, 30, 1, hard_state=HardState(1, 1))
    for index in (10, 20, 30):
        stores.checkpoint(index, 1, keys(index, 4, "a"))
        stores.trim(index - 5, 1, rows_max=3)
        stores.append(20 + index, 10, 1)
    stores.trim(30, 1)


def checkpoints(stores: Stores) -> None:
    stores.append(1, 12, 1, hard_state=HardState(1, 1))
    stores.checkpoint(1, 1, keys(0, 20, "a"))
    stores.checkpoint(3, 1, keys(5, 5, "b"), gone(0, 3))
    stores.checkpoint(4, 1, gone(10, 10))
    stores.checkpoint(6, 1, keys(0, 3, "c", size=9_000))
    stores.checkpoint(8, 1, keys(100, 10, "d", shard=1, num=2), keys(0, 1, "e"))
    stores.checkpoint(9, 1, drops=[(1, 2)])
    stores.checkpoint(12, 1)


def slices(stores: Stores) -> None:
    """A checkpoint in many turns, spilled before it commits; the log is saved in between."""
    stores.append(1, 5, 1, hard_state=HardState(1, 1))
    for number in range(3):
        meanwhile = iter(range(6 + 6 * number, 12 + 6 * number))

        def write(number: int = number, meanwhile: Iterator[int] = meanwhile) -> None:
            checkpoint = stores.data.checkpoint()
            for place in range(6):
                checkpoint.write(keys(30 * place, 30, f"s{number}", size=400))
                for index in islice(meanwhile, 1):  # what was saved is not saved again
                    stores.append(index, 1, 1)
            while number == 2 and not checkpoint.drop(0, 1, 50):
                stores.vote(1, 1)
            checkpoint.commit(5 + number, 1)

        stores.insist(write)


def aborted(stores: Stores) -> None:
    """What was spilled and undone lies behind the end of the write-ahead log; a shorter transaction follows."""
    stores.append(1, 9, 1, hard_state=HardState(1, 1))
    stores.checkpoint(1, 1, keys(0, 40, "a", size=300))
    for number in range(4):

        def undone(number: int = number) -> None:
            checkpoint = stores.data.checkpoint(fresh=number == 3)
            checkpoint.write(keys(0, 150, "never", size=500))
            checkpoint.abort()

        stores.insist(undone)
        stores.checkpoint(2 + number, 1, keys(number, 2, f"b{number}"))
        stores.append(10 + number, 1, 1)


def installs(stores: Stores) -> None:
    """Rows of a peer in the place of everything: data first, then the log; and it goes on from there."""
    stores.append(1, 6, 1, hard_state=HardState(1, 1))
    stores.checkpoint(4, 1, keys(0, 10, "a"))
    for term, index in ((2, 20), (3, 40), (5, 60)):
        stores.vote(term, 0)
        stores.checkpoint(index, term, keys(term, 12, f"i{term}"), keys(50, 12, "j"), fresh=True)
        stores.reset(index, term)
        stores.append(index + 1, 3, term)
        stores.append(index + 2, 1, term + 1, cut=index + 2, hard_state=HardState(term + 1, 2))
        stores.checkpoint(index + 1, term, keys(0, 2, "k"))
        stores.trim(index + 1, term)


def ballast(stores: Stores) -> None:
    stores.append(1, 40, 1, size=1_000, hard_state=HardState(1, 1))
    stores.checkpoint(40, 1, keys(0, 10, "a"))
    for number in range(3):
        stores.release_ballast()
        stores.trim(10 + 10 * number, 1, rows_max=4)
        stores.reserve_ballast()
        stores.append(41 + number, 1, 1)


def creation(stores: Stores) -> None:
    stores.vote(1, 1)


def formation(stores: Stores) -> None:
    facts = {"kind": "group", "gid": "7", "node": "1", "consensus": "raft", "incarnation": "0123456789abcdef" * 2}
    stores.bind(**facts)
    stores.bind(voters="1=a,2=b,3=c", formed="")
    stores.vote(1, 2)
    stores.bind(voters="1=a,2=b,3=c", formed="yes")
    stores.append(1, 2, 1)


def first_life(stores: Stores) -> None:
    stores.append(1, 10, 1, hard_state=HardState(1, 1))
    stores.checkpoint(5, 1, keys(0, 20, "a"))


def second_life(stores: Stores) -> None:
    stores.append(11, 5, 2, hard_state=HardState(2, 2))
    stores.checkpoint(15, 2, keys(0, 5, "b"), gone(7, 3))
    stores.trim(5, 1)


def third_life(stores: Stores) -> None:
    stores.checkpoint(30, 2, keys(0, 9, "c"), fresh=True)


def fourth_life(stores: Stores) -> None:
    stores.append(31, 2, 3, hard_state=HardState(3, 3))


Script = Callable[[Stores], None]


def stored(script: Script, spilling: bool = False, close: bool = True) -> Callable[[Recorder, str], None]:
    """A life that opens the stores, follows a script, and closes them in order or not."""

    def life(recorder: Recorder, path: str) -> None:
        stores = Stores(recorder, path, spilling)
        try:
            script(stores)
        except BaseException:
            stores.close()  # as a member that stops by itself does
            raise
        if close:
            stores.close()

    return life


LIVES: Final[Sequence[Script]] = (first_life, second_life, third_life, fourth_life)

WORKLOADS: Final = (
    Workload("votes", [stored(votes)]),
    Workload("appends", [stored(appends)]),
    Workload("cuts", [stored(cuts)]),
    Workload("big-entries", [stored(big_entries)]),
    Workload("trims", [stored(trims)]),
    Workload("checkpoints", [stored(checkpoints)]),
    Workload("slices", [stored(slices, spilling=True)]),
    Workload("aborted", [stored(aborted, spilling=True)]),
    Workload("installs", [stored(installs)]),
    Workload("ballast", [stored(ballast)]),
    Workload("creation", [stored(creation)]),
    Workload("formation", [stored(formation)]),
    Workload("restarts", [stored(script) for script in LIVES]),
    Workload("kills", [stored(script, close=False) for script in LIVES]),
)
