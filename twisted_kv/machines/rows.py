"""Rows: the one shape of state at rest (a checkpoint), in motion (a shard that moves) and on the wire (a snapshot).

A row belongs to a *copy* of a shard, named by (shard, num): num is the configuration by which the group gained
it. What belongs to the machine as a whole stands under shard -1. This module knows no store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    Value = str | bytes
else:  # msgspec cannot tell a union of str and bytes apart; checked_value does
    Value = Any

MACHINE_SHARD: Final = -1
NOTHING: Final = -1
RUN_NAMES: Final = 10_000
"""So many names are put in order at once: some 5 ms."""


class RowKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Where a row stands; the order is the order of streaming."""

    shard: int
    num: int
    space: str
    name: str


class Row(msgspec.Struct, frozen=True, array_like=True):
    """One row. ``space`` says what it is ("key", "session", "copy", …); a value of None deletes."""

    shard: int
    num: int
    space: str
    name: str
    value: Value | None

    @property
    def key(self) -> RowKey:
        return RowKey(self.shard, self.num, self.space, self.name)

    @property
    def size(self) -> int:
        """Roughly its bytes on the wire."""
        return 16 + len(self.name) + (len(self.value) if self.value is not None else 0)


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How far somebody has come with the rows of a copy that may change meanwhile (decisions/0007).

    Attributes:
        after: (space, name) of the last row of the walk through all of them; None before the first.
        walked: the walk is over.
        since: all changes up to this number of the copy's ledger are in what came so far; NOTHING before the first
            chunk.
    """

    after: tuple[str, str] | None = None
    walked: bool = False
    since: int = NOTHING


BEGINNING: Final = Cursor()


class ChangedRows(Mapping[tuple[int, int, str, str], "Value | None"]):
    """Changed rows by key; None deletes. In ascending order of their keys.

    Held as one map for each copy and space, as copies keep them: taking them costs the same however many changed. They
    are put in order by and by (``arrange``), or at the latest when they are read.

    Args:
        spaces: (shard, num, space) → name → value; they belong to this object from now on.
    """

    def __init__(self, spaces: dict[tuple[int, int, str], dict[str, Value | None]] | None = None) -> None:
        self._spaces = spaces or {}
        self._runs: dict[tuple[int, int, str], list[list[str]]] = {}

    @classmethod
    def of(cls, rows: Mapping[tuple[int, int, str, str], Value | None]) -> ChangedRows:
        """The same rows."""
        changed = cls()
        for (shard, num, space, name), value in rows.items():
            changed._spaces.setdefault((shard, num, space), {})[name] = value
        return changed

    def __len__(self) -> int:
        return sum(map(len, self._spaces.values()))

    def __iter__(self) -> Iterator[tuple[int, int, str, str]]:
        for row in self.rows():
            yield row.shard, row.num, row.space, row.name

    def __getitem__(self, key: tuple[int, int, str, str]) -> Value | None:
        return self._spaces[key[:3]][key[3]]

    def arrange(self) -> Iterator[None]:
        """Put them in order, RUN_NAMES with each step; once, before they are read."""
        for place, named in self._spaces.items():
            names = iter(named)
            runs = self._runs[place] = []
            while run := sorted(islice(names, RUN_NAMES)):
                runs.append(run)
                yield

    def rows(self) -> Iterator[Row]:
        """All of them; a store that is written in its own order touches no page twice."""
        for place in sorted(self._spaces):
            named = self._spaces[place]
            for name in merge(*self._runs[place]) if place in self._runs else sorted(named):
                yield Row(*place, name, named[name])

    def upon(self, older: ChangedRows, gone: set[tuple[int, int]]) -> ChangedRows:
        """These, and what is older and not among them, but nothing older of the copies that are gone."""
        spaces = dict(self._spaces)
        for place, named in older._spaces.items():
            if place[:2] not in gone:
                spaces[place] = named | spaces[place] if place in spaces else named
        return ChangedRows(spaces)


class Changes(msgspec.Struct):
    """What a checkpoint has to write: the rows that changed, as they stood at one index.

    Attributes:
        dropped: copies (shard, num) of which every row goes, before ``rows`` are written.
    """

    dropped: list[tuple[int, int]]
    rows: ChangedRows
