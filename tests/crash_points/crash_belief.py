"""What a program may believe of its files, derived from its own markers: acknowledged, in flight, or unknown.

A log and a data file are modelled as values. Of each there is a set of values that it may have: one when nothing is in
flight, two while a write is (before and after), two after a write whose outcome is unknown. Opening mends one
disagreement, so what is expected of an opened directory is the mended pair. Everything is compared exactly: a row too
many is as wrong as one too few.

Beside the files: what was answered at a door, as the number of commands applied in order, and what a follower told a
leader. These do not know the files' markers, so an answer that leaves before its save shows.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import product
from typing import Any, NamedTuple

from twisted_kv.codec import Codec
from twisted_kv.consensus.types import Entry, Restored
from twisted_kv.machines.rows import Row

_ENTRIES: Codec[Entry] = Codec(Entry)

EntryFacts = tuple[int, int, int]
"""Index, term, checksum of all of it."""

Key = tuple[int, int, str, str]


def entry_facts(entry: Entry) -> EntryFacts:
    """What is compared of an entry."""
    return entry.index, entry.term, zlib.crc32(_ENTRIES.encode(entry))


def value_facts(value: Any) -> int:
    """What is compared of a row's value."""
    kind, body = (b"s", value.encode()) if isinstance(value, str) else (b"b", value)
    return zlib.crc32(kind + body)


class Log(NamedTuple):
    """A log file: what ``restore`` and ``identity`` say."""

    term: int = 0
    vote: int = 0
    boundary: tuple[int, int] = (0, 0)
    entries: tuple[EntryFacts, ...] = ()
    identity: tuple[tuple[str, str], ...] = ()

    def after(self, effect: list[Any]) -> Log:
        """The value when a write has been carried out."""
        match effect:
            case ["save", hard_state, cut, entries]:
                term, vote = hard_state or (self.term, self.vote)
                kept = {entry[0]: entry for entry in self.entries if cut is None or entry[0] < cut}
                kept |= {entry[0]: tuple(entry) for entry in entries}
                above = tuple(kept[index] for index in sorted(kept) if index > self.boundary[0])
                return self._replace(term=term, vote=vote, entries=above)
            case ["trim", index, term]:
                if index <= self.boundary[0]:
                    return self
                return self._replace(boundary=(index, term), entries=tuple(e for e in self.entries if e[0] > index))
            case ["reset", index, term]:
                return self._replace(boundary=(index, term), entries=())
            case ["bind", facts]:
                return self._replace(identity=tuple(sorted((dict(self.identity) | facts).items())))
        raise AssertionError(effect)

    def agreeing(self, data: Data) -> Log:
        """As opening leaves it beside these data (docs/storage.md)."""
        position = (data.at, data.term)
        if position == self.boundary or any(entry[:2] == position for entry in self.entries):
            return self
        return self.after(["reset", *position])

    @staticmethod
    def found(restored: Restored, identity: Iterable[tuple[str, str]]) -> Log:
        """What a store says."""
        return Log(
            restored.hard_state.term,
            restored.hard_state.vote,
            (restored.boundary.index, restored.boundary.term),
            tuple(map(entry_facts, restored.entries)),
            tuple(sorted(identity)),
        )


class Data(NamedTuple):
    """A data file: position and rows, the rows ascending by key."""

    at: int = 0
    term: int = 0
    rows: tuple[tuple[Key, int], ...] = ()

    def after(self, effect: list[Any]) -> Data:
        """The value when a checkpoint has been committed."""
        _, index, term, fresh, steps = effect
        rows = {} if fresh else dict(self.rows)
        for what, *facts in steps:
            if what == "drop":
                shard, num, rows_max = facts
                for key in sorted(key for key in rows if key[:2] == (shard, num))[:rows_max]:
                    del rows[key]
            else:
                for key, value in facts[0]:
                    if value is None:
                        rows.pop(tuple(key), None)
                    else:
                        rows[tuple(key)] = value
        return Data(index, term, tuple(sorted(rows.items())))

    @staticmethod
    def found(position: tuple[int, int], rows: Iterable[Row]) -> Data:
        """What a store says."""
        facts = {(row.shard, row.num, row.space, row.name): value_facts(row.value) for row in rows}
        return Data(*position, tuple(sorted(facts.items())))


class Expected(NamedTuple):
    """What may be found at one crash point.

    Attributes:
        pairs: of (log, data) as an opened directory may show them.
        answered, asked: commands answered, and commands that have left for the log, in order.
        vote: (term, candidate) of the last vote told to somebody.
        acked: index → (term, checksum) of the entries that a leader was told of.
    """

    pairs: frozenset[tuple[Log, Data]]
    answered: int
    asked: int
    vote: tuple[int, int]
    acked: tuple[EntryFacts, ...]


class Belief:
    """Follows the markers of one program, over all its lives."""

    def __init__(self) -> None:
        self._logs: set[Log] = {Log()}
        self._data: set[Data] = {Data()}
        self._flying: dict[str, list[Any]] = {}
        self._answered = 0
        self._asked = 0
        self._vote = (0, 0)
        self._acked: dict[int, EntryFacts] = {}
        self._expected: Expected | None = None
        self.commands: list[bytes] = []

    def take(self, facts: list[Any]) -> None:
        """One marker more."""
        self._expected = None
        getattr(self, f"_take_{facts[0]}")(*facts[1:])

    def expected(self) -> Expected:
        """What may be found now."""
        if self._expected is None:
            logs, data = self._possible("log", self._logs), self._possible("data", self._data)
            pairs = frozenset((log.agreeing(beside), beside) for log, beside in product(logs, data))
            acked = tuple(self._acked[index] for index in sorted(self._acked))
            self._expected = Expected(pairs, self._answered, self._asked, self._vote, acked)
        return self._expected

    def _possible(self, file: str, values: set[Any]) -> set[Any]:
        effect = self._flying.get(file)
        return values if effect is None else values | {value.after(effect) for value in values}

    # ── markers of the files ───────────────────────────────────────────────────────────────────────

    def _take_try(self, file: str, effect: list[Any]) -> None:
        assert file not in self._flying, "one write of a file at a time"
        self._flying[file] = effect

    def _take_done(self, file: str) -> None:
        effect = self._flying.pop(file)
        values = self._logs if file == "log" else self._data
        self._keep(file, {value.after(effect) for value in values})

    def _take_refused(self, file: str) -> None:
        """Certainly not written, neither now nor later."""
        self._flying.pop(file, None)

    def _take_unknown(self, file: str) -> None:
        values = self._logs if file == "log" else self._data
        self._keep(file, self._possible(file, values))
        self._flying.pop(file, None)

    def _keep(self, file: str, values: set[Any]) -> None:
        if file == "log":
            self._logs = values
        else:
            self._data = values

    def _take_opened(self, log_digest: int, data_digest: int) -> None:
        """A life has opened the directory, and this is what it found: what was in flight is settled."""
        for file in list(self._flying):
            self._take_unknown(file)
        mended = {(log.agreeing(data), data) for log, data in product(self._logs, self._data)}
        fitting = {pair for pair in mended if (digest(pair[0]), digest(pair[1])) == (log_digest, data_digest)}
        self._logs = {log for log, _ in fitting or mended}
        self._data = {data for _, data in fitting or mended}

    # ── markers of the doors ───────────────────────────────────────────────────────────────────────

    def _take_asked(self, command: bytes) -> None:
        self.commands.append(command)
        self._asked += 1

    def _take_withdrawn(self, count: int) -> None:
        """The last commands never entered the log."""
        del self.commands[-count:]
        self._asked -= count

    def _take_answered(self, count: int) -> None:
        self._answered = count

    def _take_voted(self, term: int, candidate: int) -> None:
        self._vote = max(self._vote, (term, candidate))

    def _take_acked(self, entries: list[list[int]]) -> None:
        self._acked |= {entry[0]: (entry[0], entry[1], entry[2]) for entry in entries}

    def _take_overwritten(self, index: int) -> None:
        """A later leader has asked that everything from here on be cut."""
        self._acked = {at: entry for at, entry in self._acked.items() if at < index}

    def _take_ended(self, how: str) -> None:
        """A life is over; what it left in flight stays open until the next one looks."""


def digest(value: Log | Data) -> int:
    """To compare over a marker."""
    return zlib.crc32(repr(value).encode())
