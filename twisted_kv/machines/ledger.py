"""The ledger of a copy that is handed over while it is served: which rows changed, and in which order.

Every change gets the next number; of a row only its last change stands. It follows from the log alone and is kept as
rows of the copy, so a number means the same to every replica, also to one that was restarted or fed (decisions/0007).
Knows neither values nor who asks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted_kv.machines.rows import Value

_SUPERSEDED_MAX = 1000


class Ledger:
    """Changes of rows, numbered from 1.

    Attributes:
        count: the number of the newest change, 0 before any.
    """

    __slots__ = ("_changed", "_in_order", "_numbers", "_order", "_rows", "count")

    def __init__(self) -> None:
        self.count = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._rows: dict[int, tuple[str, str]] = {}
        self._order: list[int] = []
        self._in_order = True
        self._changed: dict[str, Value | None] = {}

    def note(self, space: str, name: str) -> None:
        """The row has changed, or is gone."""
        row = (space, name)
        self.count += 1
        superseded = self._numbers.get(row)
        if superseded is not None:
            del self._rows[superseded]
        self._numbers[row] = self.count
        self._rows[self.count] = row
        self._order.append(self.count)
        self._changed[f"{space}/{name}"] = str(self.count)

    def beyond(self, number: int) -> Iterator[tuple[int, str, str]]:
        """(number, space, name) of every row whose last change has a higher number, ascending. Read it at once."""
        if not self._in_order or len(self._order) > 2 * len(self._rows) + _SUPERSEDED_MAX:
            self._order = sorted(self._rows)
            self._in_order = True
        for place in range(bisect_right(self._order, number), len(self._order)):
            row = self._rows.get(self._order[place])
            if row is not None:
                yield self._order[place], *row

    def take(self) -> dict[str, Value | None]:
        """Name → value of its own rows that changed since the last call: the map of them, handed over as it is."""
        changed, self._changed = self._changed, {}
        return changed

    def load(self, name: str, value: str) -> None:
        """Take back a row of its own."""
        space, _, row_name = name.partition("/")
        number = int(value)
        self._numbers[space, row_name] = number
        self._rows[number] = (space, row_name)
        self._order.append(number)
        self._in_order = False
        self.count = max(self.count, number)
