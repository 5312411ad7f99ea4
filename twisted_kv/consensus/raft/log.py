"""The log of one node in memory: what it holds, what of it is on disk, and where the two part.

Source: Raft §5.3 and §7 (the boundary stands for everything compacted). It decides which entries must be saved and
which cut makes the disk agree again; it refuses to know commitment, terms of office and who sent what.

Three marks only ever stand in this order: ``saved`` ≤ handed ≤ ``last``. Entries up to *handed* were given out to be
saved; up to ``saved`` they are durable. A cut rolls all marks back (hazard 16).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter

from twisted_kv.consensus.types import Entry, Position

_ENTRY_OVERHEAD_BYTES = 32
_COMMAND_OVERHEAD_BYTES = 5
_term_of = attrgetter("term")
_START = Position()


def entry_bytes(entry: Entry) -> int:
    """About how many bytes an entry takes on the wire and on disk."""
    commands = entry.commands
    return _ENTRY_OVERHEAD_BYTES + _COMMAND_OVERHEAD_BYTES * len(commands) + sum(map(len, commands))


class Log:
    """Entries without a gap after a boundary.

    Args:
        boundary: the last compacted place; (0, 0) for none.
        entries: what the disk holds after it.
    """

    __slots__ = ("_cut", "_entries", "_handed", "_in_flight", "_sizes", "boundary", "saved")

    def __init__(self, boundary: Position = _START, entries: Sequence[Entry] = ()) -> None:
        self.boundary = boundary
        self._entries = list(entries)
        self._sizes = [entry_bytes(entry) for entry in entries]
        self.saved = self._handed = self._in_flight = self.last
        self._cut: int | None = None
        assert all(entry.index == self.first + place for place, entry in enumerate(entries)), "a gap in the log"

    # ── looking ────────────────────────────────────────────────────────────────────────────────────

    @property
    def first(self) -> int:
        """The lowest index held, or to be held next."""
        return self.boundary.index + 1

    @property
    def last(self) -> int:
        """The highest index held; the boundary's when empty."""
        return self.boundary.index + len(self._entries)

    @property
    def last_term(self) -> int:
        """The term at ``last``."""
        return self._entries[-1].term if self._entries else self.boundary.term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at this index, or None below the boundary and beyond the end."""
        place = index - self.boundary.index - 1
        if place == -1:
            return self.boundary.term
        return self._entries[place].term if 0 <= place < len(self._entries) else None

    def entry_at(self, index: int) -> Entry:
        """The entry at an index between ``first`` and ``last``."""
        assert self.first <= index <= self.last
        return self._entries[index - self.first]

    def span(self, first: int, last: int, bytes_max: int) -> tuple[tuple[Entry, ...], int]:
        """Entries from ``first`` to at most ``last``, about bytes_max of them but at least one; and their bytes."""
        assert self.first <= first
        start = first - self.first
        stop = min(last, self.last) - self.first + 1
        total = 0
        for place in range(start, stop):
            size = self._sizes[place]
            if total and total + size > bytes_max:
                stop = place
                break
            total += size
        return tuple(self._entries[start:stop]), total

    def last_at_most(self, index: int, term: int) -> int:
        """The highest index up to ``index`` whose term is at most ``term``.

        Terms never fall along a log, so a whole term, or many, is skipped at once (§5.3). One below the boundary
        means: nothing that is held here.
        """
        stop = max(0, min(index, self.last) - self.boundary.index)
        place = bisect_right(self._entries, term, 0, stop, key=_term_of)
        if place or self.boundary.term <= term:
            return min(index, self.boundary.index + place)
        return min(index, self.boundary.index - 1)

    # ── changing ───────────────────────────────────────────────────────────────────────────────────

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        for entry in entries:
            assert entry.index == self.last + 1
            self._entries.append(entry)
            self._sizes.append(entry_bytes(entry))

    def cut(self, index: int) -> None:
        """Drop the entry at ``index`` and all after it: they contradict the leader's (§5.3)."""
        assert self.boundary.index < index <= self.last
        if index <= self._handed:
            # Handed falls below a cut, so a later one that the disk must hear of lies lower still.
            self._cut = index
        place = index - self.first
        del self._entries[place:], self._sizes[place:]
        self._handed = min(self._handed, index - 1)
        self._in_flight = min(self._in_flight, index - 1)
        self.saved = min(self.saved, index - 1)

    def compact(self, index: int) -> None:
        """Forget everything up to ``index``, which is durable elsewhere; its term is kept at the boundary."""
        assert self.boundary.index < index <= self.saved
        boundary = Position(index, self.entry_at(index).term)
        count = index - self.boundary.index
        del self._entries[:count], self._sizes[:count]
        self.boundary = boundary

    def reset(self, boundary: Position) -> None:
        """Begin anew after a boundary that came from elsewhere; the disk was reset by the owner."""
        self.boundary = boundary
        self._entries.clear()
        self._sizes.clear()
        self._cut = None
        self.saved = self._handed = self._in_flight = boundary.index

    # ── saving ─────────────────────────────────────────────────────────────────────────────────────

    def take_unsaved(self) -> tuple[int | None, tuple[Entry, ...]]:
        """The cut and the entries that the disk lacks; each is given out once."""
        cut, self._cut = self._cut, None
        entries = tuple(self._entries[self._handed - self.boundary.index :])
        self._handed = self._in_flight = self.last
        return cut, entries

    def saved_what_was_taken(self) -> None:
        """What was taken last is durable now, as far as no cut has replaced it since."""
        self.saved = self._in_flight
