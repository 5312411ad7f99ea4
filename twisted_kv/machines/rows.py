"""Rows: the one shape of state at rest (a checkpoint), in motion (a shard that moves) and on the wire (a snapshot).

A row belongs to a *copy* of a shard, named by (shard, num): num is the configuration by which the group gained
it. What belongs to the machine as a whole stands under shard -1. This module knows no store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    Value = str | bytes
else:  # msgspec cannot tell a union of str and bytes apart; checked_value does
    Value = Any

MACHINE_SHARD: Final = -1
NOTHING: Final = -1


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


class Changes(msgspec.Struct):
    """What a checkpoint has to write: the rows that changed, as they stood at one index.

    Attributes:
        dropped: copies (shard, num) of which every row goes, before ``rows`` are written.
        rows: changed rows by key; None deletes.
    """

    dropped: list[tuple[int, int]]
    rows: dict[tuple[int, int, str, str], Value | None]
