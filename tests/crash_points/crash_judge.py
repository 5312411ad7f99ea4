"""Opens a directory as the production code does, looks at all of it, works on, and says what is wrong.

The contract: a state that a crash alone can produce opens; term and vote, entries, rows and position are those
acknowledged or in flight; the log begins where the data end or earlier; a member can go on from there, saves, and finds
that again. What is seen depends on the files alone, so equal pictures are looked at once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from crash_belief import Belief, Data, Expected, Log, digest
from crash_boot import Held, Seat, boot
from crash_disk import Picture
from twisted.logger import globalLogPublisher

from twisted_kv.consensus.types import Entry, HardState, Ready, Restored
from twisted_kv.errors import StartRefused
from twisted_kv.machines.rows import Row
from twisted_kv.storage.directory import ReplicaDirectory, open_directory

REPLICA: Final = "replica"
"""The replica's directory below the recorded one."""

BALLAST_BYTES: Final = 16 * 1024
"""Small, so that tens of thousands of directories are written quickly."""

_ROWS_BYTES: Final = 1 << 20
_MORE: Final = (b"one more save",)


class Seen(NamedTuple):
    """What opening a picture showed.

    Attributes:
        refused: the line of a StartRefused, or "".
        broke: any other exception, or what went wrong in working on; "" if nothing did.
        held, applied: digest of the machine with the rows, and with every entry of the log as well; None where no
            machine is involved, or nobody knows which entries are committed.
    """

    refused: str = ""
    broke: str = ""
    log: Log = Log()
    data: Data = Data()
    mended: bool = False
    held: int | None = None
    applied: int | None = None


Machine = Callable[[], Any]
Result = TypeVar("Result")


class Judge:
    """Looks at pictures in a scratch directory of its own.

    Args:
        machine: makes the machine of the workload's member; None if it has none.
        seat: whose directory it is, so that a whole member can be booted on it.
    """

    def __init__(self, scratch: Path, machine: Machine | None, seat: Seat | None) -> None:
        self._path = Path(tempfile.mkdtemp(dir=scratch))
        self._machine = machine
        self._seat = seat
        self._seen: dict[bytes, Seen] = {}
        self._digests: list[int] = []
        self._reference: Any = machine() if machine is not None else None
        self.judged = 0
        self.booted = 0

    @property
    def opened(self) -> int:
        """How many different pictures were opened."""
        return len(self._seen)

    @property
    def mended(self) -> int:
        """In how many of them opening carried out the second half of an install."""
        return sum(seen.mended for seen in self._seen.values())

    def wrong(self, picture: Picture, belief: Belief) -> str:
        """What is wrong with this picture, given what the program believes; "" if nothing is."""
        self.judged += 1
        name = picture.digest()
        if name not in self._seen:
            self._seen[name] = self._look(picture)
        seen = self._seen[name]
        if seen.refused:
            return f"refused: {seen.refused}"
        if seen.broke:
            return seen.broke
        return _misfit(seen, belief.expected()) or self._misapplied(seen, belief)

    def forget_commands(self) -> None:
        """The next belief is of another run, whose commands may have left in another order."""
        self._digests.clear()
        if self._machine is not None:
            self._reference = self._machine()

    def _look(self, picture: Picture) -> Seen:
        seat = self._seat
        make = self._machine or (seat.machine if seat is not None else None)
        seen = self._with(picture, lambda path: look(path, make, self._machine is not None))
        if seat is None or seen.refused or seen.broke:
            return seen
        assert seen.held is not None
        self.booted += 1
        held = Held(seen.log, seen.data, seen.held, seen.applied)
        return seen._replace(broke=self._with(picture, lambda path: boot(path, seat, held)))

    def _with(self, picture: Picture, do: Callable[[str], Result]) -> Result:
        picture.put(self._path)
        try:
            return do(str(self._path / REPLICA))
        finally:
            shutil.rmtree(self._path)
            self._path.mkdir()

    def _misapplied(self, seen: Seen, belief: Belief) -> str:
        """The machine's state is that after some number of the commands, no fewer than were answered."""
        if seen.applied is None:
            return ""
        expected = belief.expected()
        allowed = [self._after(belief, count) for count in range(expected.answered, expected.asked + 1)]
        if seen.applied in allowed:
            return ""
        earlier = [count for count in range(expected.answered) if self._after(belief, count) == seen.applied]
        found = f"the state after {earlier[-1]} commands" if earlier else "the state after no number of commands"
        return f"answered {expected.answered} of {expected.asked} commands, found {found}"

    def _after(self, belief: Belief, count: int) -> int:
        if not self._digests:
            self._digests.append(self._reference.digest())
        while len(self._digests) <= count:
            self._reference.apply(len(self._digests), belief.commands[len(self._digests) - 1])
            self._digests.append(self._reference.digest())
        return self._digests[count]


def look(path: str, machine: Machine | None, all_committed: bool) -> Seen:
    """Open a directory, read all of it, work on, open it again."""
    begun_anew: list[Any] = []
    observer: Any = begun_anew.append
    globalLogPublisher.addObserver(observer)
    try:
        directory = open_directory(path, ballast_bytes=BALLAST_BYTES)
    except StartRefused as error:
        return Seen(refused=str(error))
    except Exception as error:
        return Seen(broke=f"opening raised {error!r}")
    finally:
        globalLogPublisher.removeObserver(observer)
    try:
        mended = any("begun anew" in event.get("log_format", "") for event in begun_anew)
        restored, rows = directory.log.restore(), all_rows(directory)
        log, data = Log.found(restored, directory.log.identity().items()), Data.found(directory.data.position(), rows)
        held, applied = _digests(machine, restored, rows, data, all_committed) if machine is not None else (None, None)
        broke = _worked_on(directory, log, data)
    except Exception as error:
        return Seen(broke=f"working on raised {error!r}")
    finally:
        directory.close()
    return Seen("", broke or _found_again(path, log, data), log, data, mended, held, applied)


def all_rows(directory: ReplicaDirectory) -> list[Row]:
    """Every row of the data file."""
    rows: list[Row] = []
    while page := directory.data.rows(rows[-1].key if rows else None, _ROWS_BYTES):
        rows.extend(page)
    return rows


def _digests(
    make: Machine, restored: Restored, rows: Sequence[Row], data: Data, all_committed: bool
) -> tuple[int, int | None]:
    machine = make()
    machine.clear()
    machine.load(rows)
    held = int(machine.digest())
    if not all_committed:
        return held, None
    for entry in restored.entries:
        if entry.index > data.at:
            for command in entry.commands:
                machine.apply(entry.index, command)
    return held, int(machine.digest())


def _next(log: Log, data: Data) -> Entry:
    last = max([log.boundary[0], data.at, *(entry[0] for entry in log.entries)])
    return Entry(last + 1, log.term + 1, _MORE)


def _worked_on(directory: ReplicaDirectory, log: Log, data: Data) -> str:
    """One more save, and one more checkpoint behind it."""
    entry = _next(log, data)
    directory.log.save(Ready(hard_state=HardState(entry.term, 1), entries=(entry,)))
    checkpoint = directory.data.checkpoint()
    checkpoint.write([Row(0, 1, "key", "more", "1")])
    checkpoint.commit(entry.index, entry.term)
    if log.entries:
        directory.log.trim(log.entries[0][0], log.entries[0][1], 500)
    return ""


def _found_again(path: str, log: Log, data: Data) -> str:
    entry = _next(log, data)
    try:
        directory = open_directory(path, ballast_bytes=BALLAST_BYTES)
    except Exception as error:
        return f"opened once, then: {error!r}"
    try:
        restored = directory.log.restore()
        again = Data.found(directory.data.position(), all_rows(directory))
    finally:
        directory.close()
    if restored.entries[-1:] != (entry,) or restored.hard_state != HardState(entry.term, 1):
        return "what was saved after the crash is not there at the next start"
    rows = dict(data.rows) | {(0, 1, "key", "more"): dict(again.rows).get((0, 1, "key", "more"))}
    if (again.at, again.term) != (entry.index, entry.term) or dict(again.rows) != rows:
        return "a checkpoint after the crash is not there at the next start"
    return ""


def _misfit(seen: Seen, expected: Expected) -> str:
    """Why what was seen is none of what may be; the promises first, since they say more."""
    log = seen.log
    term, candidate = expected.vote
    if log.term < term or (log.term == term and log.vote != candidate):
        return f"a vote in term {term} for {candidate} was told, found ({log.term}, {log.vote})"
    held = set(log.entries)
    for entry in expected.acked:
        if entry[0] > log.boundary[0] and entry not in held:
            return f"entry {entry[0]} of term {entry[1]} was acknowledged to a leader, and is not there"
    if (log, seen.data) in expected.pairs:
        return ""
    logs = {each for each, _ in expected.pairs}
    data = {each for _, each in expected.pairs}
    if log in logs and seen.data in data:
        return "log and data are each as they may be, but not together"
    if log not in logs:
        return f"the log is {_log_words(log)}; it may be {' or '.join(sorted(map(_log_words, logs)))}"
    return f"the data are {_data_words(seen.data)}; they may be {' or '.join(sorted(map(_data_words, data)))}"


def _log_words(log: Log) -> str:
    entries = f"{log.entries[0][0]}-{log.entries[-1][0]}" if log.entries else "none"
    return (
        f"(term {log.term}, vote {log.vote}, behind {log.boundary}, {len(log.entries)} entries: {entries}, "
        f"{digest(log) & 0xFFFF:04x}, identity {len(log.identity)})"
    )


def _data_words(data: Data) -> str:
    return f"(at {data.at}, term {data.term}, {len(data.rows)} rows, {digest(data) & 0xFFFF:04x})"
