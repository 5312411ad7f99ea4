"""What one copy of a shard holds: keys with their values, and the sessions that travel with them.

Decides that an operation is executed once (session check, then the table of operations, then the record) and
which rows a checkpoint owes: changed keys with their values as they stand, taken by swapping the map (house.md,
Storage). Source: scenarios §3.2-13 to 17. Knows neither which shard it is, nor its phase, nor who may ask.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from twisted_kv.machines.commands import Operation, Outcome, Refused, Scanned
from twisted_kv.machines.operations import digest_of, execute, size_of
from twisted_kv.machines.rows import Row, Value
from twisted_kv.machines.sessions import Sessions

KEY_SPACE: Final = "key"
SESSION_SPACE: Final = "session"

_NO_ROOM: Final = Refused("Overloaded", "this session keeps too many answers; send again when earlier ones came")


class Shard:
    """Keys and sessions of one copy.

    Attributes:
        data: key → value.
        sessions: who wrote, up to which sequence, with which outcomes.
        bytes: of all keys and values, text counted as UTF-8.
    """

    __slots__ = ("_arrived", "_changed", "bytes", "data", "sessions")

    def __init__(self) -> None:
        self.data: dict[str, Value] = {}
        self.sessions = Sessions()
        self.bytes = 0
        self._changed: dict[str, Value | None] = {}
        self._arrived: dict[str, Value] = {}

    def execute(self, operation: Operation, value_bytes_max: int) -> Outcome:
        """Carry out an operation once; a repeat is given what the first attempt was given.

        A refusal of the operation itself is an outcome like others and is recorded: a retry must not be
        executed when the value has meanwhile become such that it would succeed.
        """
        sessions, session, sequence = self.sessions, operation.session, operation.sequence
        digest = digest_of(operation)
        settled: Outcome | None = sessions.recall(session, sequence, operation.floor, digest)
        if settled is not None:
            return settled
        key = operation.key
        old = self.data.get(key)
        # Only put_hash has answers as large as a client likes.
        if operation.verb == "h" and old is not None and not sessions.room_for(session, size_of(old)):
            return _NO_ROOM
        new, outcome = execute(old, operation, value_bytes_max)
        if new is not old:
            self._changed[key] = new
            if new is None:
                self._delete(key)
            else:
                self._put(key, old, new)
        sessions.record(session, sequence, digest, outcome)
        return outcome

    def take(self) -> Iterator[tuple[str, str, Value | None]]:
        """(space, name, value) of all that changed since the last call; None deletes. Costs what changed."""
        changed, self._changed = self._changed, {}
        for key, value in changed.items():
            yield KEY_SPACE, key, value
        arrived, self._arrived = self._arrived, {}
        # Sessions that arrived first: what the sessions say themselves is newer.
        for name, row in arrived.items():
            yield SESSION_SPACE, name, row
        for name, state in self.sessions.take_dirty():
            yield SESSION_SPACE, name, state

    def install(self, rows: Iterable[Row]) -> None:
        """Take over rows of another group's copy; they are owed to the next checkpoint."""
        for row in rows:
            assert row.value is not None, "a copy in motion has no deletions"
            self.load(row.space, row.name, row.value)
            (self._changed if row.space == KEY_SPACE else self._arrived)[row.name] = row.value

    def load(self, space: str, name: str, value: Value) -> None:
        """Take back a row that was stored."""
        if space == KEY_SPACE:
            self._put(name, self.data.get(name), value)
        else:
            assert space == SESSION_SPACE, f"a copy has no space {space!r}"
            self.sessions.load(name, value)

    def scan(self, after: str | None, bytes_max: int) -> Scanned:
        """Keys in order beyond ``after``, with about bytes_max of keys and values, one at the least."""
        order = sorted(self.data if after is None else [key for key in self.data if key > after])
        keys: list[str] = []
        left = bytes_max
        for key in order:
            left -= size_of(key) + size_of(self.data[key])
            if left < 0 and keys:
                break
            keys.append(key)
        return Scanned(tuple(keys), tuple([self.data[key] for key in keys]), len(keys) == len(order))

    def digest(self) -> int:
        """A 32-bit hash of keys, values and sessions, whatever the order in which they came."""
        total = self.sessions.digest()
        for key, value in self.data.items():
            named = zlib.crc32(key.encode())
            total += zlib.crc32(value.encode(), named) if isinstance(value, str) else ~zlib.crc32(value, named)
        return total & 0xFFFFFFFF

    def _delete(self, key: str) -> None:
        self.bytes -= size_of(key) + size_of(self.data.pop(key))

    def _put(self, key: str, old: Value | None, new: Value) -> None:
        self.data[key] = new
        self.bytes += size_of(new) + (size_of(key) if old is None else -size_of(old))


class Listing:
    """The rows of a copy that will not change any more, in (space, name) order, to be given out in chunks.

    Sorted once; a chunk then costs what it carries, and any cursor may be asked for again.
    """

    __slots__ = ("_data", "_order", "_sessions")

    def __init__(self, frozen: Shard) -> None:
        self._data = frozen.data
        self._sessions = dict(frozen.sessions.rows())
        self._order = [(KEY_SPACE, name) for name in sorted(self._data)]
        self._order += [(SESSION_SPACE, name) for name in sorted(self._sessions)]

    def chunk(
        self, shard: int, num: int, after: tuple[str, str] | None, bytes_max: int
    ) -> tuple[tuple[Row, ...], bool]:
        """The next rows, and whether they are the last ones.

        Args:
            shard, num: the copy that the rows are labelled with.
            after: (space, name) of the last row the asker has; None: from the beginning.
            bytes_max: about this many bytes; a single row may be larger.
        """
        rows: list[Row] = []
        left = bytes_max
        start = 0 if after is None else bisect_right(self._order, after)
        for position in range(start, len(self._order)):
            space, name = self._order[position]
            row = Row(shard, num, space, name, self._data[name] if space == KEY_SPACE else self._sessions[name])
            left -= row.size
            if left < 0 and rows:
                return tuple(rows), False
            rows.append(row)
        return tuple(rows), True
