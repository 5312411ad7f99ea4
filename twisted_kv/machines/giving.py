"""A copy as its taker sees it: all rows once, then those that changed, in chunks of a size.

Decides what stands in a chunk and how far a cursor gets by it; source: decisions/0007. Gives rows as they stand
when they are given. Knows no phase, no taker, and nothing of sessions but the names of their rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Final, NamedTuple

from twisted_kv.machines.rows import NOTHING, Cursor, Row
from twisted_kv.machines.shard import KEY_SPACE, SESSION_SPACE, Shard

RUN_KEYS: Final = 20_000
"""So many keys are sorted in one turn: some 10 ms."""


class Chunk(NamedTuple):
    """Some rows, the cursor behind them, and whether nothing stands beyond it now."""

    rows: tuple[Row, ...]
    cursor: Cursor
    level: bool


class Giving:
    """Gives a copy in chunks; any cursor may be asked for again, and by any replica of the taker.

    Args:
        shard, num: the name of the copy, for the labels of its rows.
    """

    def __init__(self, shard: int, num: int, contents: Shard) -> None:
        self._shard = shard
        self._num = num
        self._contents = contents
        # What comes to be from here on stands in the ledger behind this number.
        self._begun = contents.changes
        self._unsorted: list[str] = [*contents.data]
        self._runs: list[list[str]] = []
        self._sessions = sorted(contents.sessions.names())

    def prepare(self) -> bool:
        """Sort some more of the keys; True when there are no more to sort."""
        if self._unsorted:
            run = self._unsorted[-RUN_KEYS:]
            del self._unsorted[-RUN_KEYS:]
            run.sort()
            self._runs.append(run)
        return not self._unsorted

    def chunk(self, cursor: Cursor, bytes_max: int) -> Chunk:
        """The next rows behind a cursor, once ``prepare`` has said True; about bytes_max, one row at the least."""
        return self._changed(cursor, bytes_max) if cursor.walked else self._walked(cursor, bytes_max)

    def _walked(self, cursor: Cursor, bytes_max: int) -> Chunk:
        since = self._begun if cursor.since == NOTHING else min(cursor.since, self._begun)
        rows: list[Row] = []
        left = bytes_max
        after = cursor.after
        for space, name in self._names_behind(after):
            value = self._contents.value(space, name)
            if value is None:
                continue
            row = Row(self._shard, self._num, space, name, value)
            left -= row.size
            if left < 0 and rows:
                return Chunk(tuple(rows), Cursor(after, False, since), False)
            rows.append(row)
            after = (space, name)
        return Chunk(tuple(rows), Cursor(after, True, since), since >= self._contents.changes)

    def _changed(self, cursor: Cursor, bytes_max: int) -> Chunk:
        rows: list[Row] = []
        left = bytes_max
        since = cursor.since
        for number, space, name in self._contents.changed_beyond(cursor.since):
            row = Row(self._shard, self._num, space, name, self._contents.value(space, name))
            left -= row.size
            if left < 0 and rows:
                return Chunk(tuple(rows), Cursor(cursor.after, True, since), False)
            rows.append(row)
            since = number
        return Chunk(tuple(rows), Cursor(cursor.after, True, max(since, self._contents.changes)), True)

    def _names_behind(self, after: tuple[str, str] | None) -> Iterator[tuple[str, str]]:
        if after is None or after[0] == KEY_SPACE:
            for key in merge(*[_behind(run, after and after[1]) for run in self._runs]):
                yield KEY_SPACE, key
            after = None
        for name in _behind(self._sessions, after and after[1]):
            yield SESSION_SPACE, name


def _behind(run: Sequence[str], name: str | None) -> Iterator[str]:
    for place in range(0 if name is None else bisect_right(run, name), len(run)):
        yield run[place]
