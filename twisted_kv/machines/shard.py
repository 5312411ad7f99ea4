"""What one copy of a shard holds: keys with their values, and the sessions that travel with them.

Decides that an operation is executed once (session check, then the table of operations, then the record) and
which rows a checkpoint owes: changed keys with their values as they stand, taken by swapping the map (house.md,
Storage). A copy that is being pulled takes rows in as they come; its sessions are read when all are there, for an
answer may come before its session. Source: scenarios §3.2-13 to 17, decisions/0007. Knows neither which shard it is,
nor its phase, nor who may ask.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from twisted_kv.machines.commands import Operation, Outcome, Refused, Scanned
from twisted_kv.machines.ledger import Ledger
from twisted_kv.machines.operations import OPERATIONS, digest_of, size_of
from twisted_kv.machines.rows import Row, Value
from twisted_kv.machines.sessions import Sessions

KEY_SPACE: Final = "key"
SESSION_SPACE: Final = "session"
LEDGER_SPACE: Final = "ledger"

_NO_ROOM: Final = Refused("Overloaded", "this session keeps too many answers; send again when earlier ones came")


class Shard:
    """Keys and sessions of one copy.

    Attributes:
        data: key → value.
        sessions: who wrote, up to which sequence, with which outcomes.
        bytes: of all keys and values, text counted as UTF-8.
    """

    __slots__ = ("_arrived", "_changed", "_ledger", "_waiting", "bytes", "data", "sessions")

    def __init__(self) -> None:
        self.data: dict[str, Value] = {}
        self.sessions = Sessions()
        self.bytes = 0
        self._changed: dict[str, Value | None] = {}
        self._ledger: Ledger | None = None
        self._waiting: dict[str, Value] = {}
        self._arrived: dict[str, Value | None] = {}

    @property
    def changes(self) -> int:
        """How many changes of rows there were since ``watch``."""
        return 0 if self._ledger is None else self._ledger.count

    def watch(self) -> None:
        """From now on, keep a ledger of what changes."""
        if self._ledger is None:
            self._ledger = Ledger()
            self.sessions.watch(partial(self._ledger.note, SESSION_SPACE))

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
        key, verb = operation.key, operation.verb
        old = self.data.get(key)
        # Only put_hash has answers as large as a client likes.
        if verb == "h" and old is not None and not sessions.room_for(session, size_of(old)):
            return _NO_ROOM
        new, outcome = OPERATIONS[verb](old, operation.value, value_bytes_max)
        if new is not old:
            self._changed[key] = new
            if self._ledger is not None:
                self._ledger.note(KEY_SPACE, key)
            if new is None:
                self._delete(key)
            else:
                self._put(key, old, new)
        sessions.record(session, sequence, digest, outcome)
        return outcome

    def take(self) -> dict[str, dict[str, Value | None]]:
        """space → name → value of all that changed since the last call; None deletes.

        The map of changed keys is handed over as it is, so what this costs does not follow their number.
        """
        changed, self._changed = self._changed, {}
        arrived, self._arrived = self._arrived, {}
        # Sessions that arrived first: what the sessions say themselves is newer.
        arrived.update(self.sessions.take_dirty())
        spaces: dict[str, dict[str, Value | None]] = {KEY_SPACE: changed, SESSION_SPACE: arrived}
        if self._ledger is not None:
            spaces[LEDGER_SPACE] = self._ledger.take()
        return {space: rows for space, rows in spaces.items() if rows}

    def install(self, rows: Iterable[Row]) -> None:
        """Take over rows of another group's copy, a later one in place of an earlier one; without a value it is gone.

        They are owed to the next checkpoint. The sessions among them count from ``complete`` on.
        """
        for row in rows:
            if row.space == KEY_SPACE:
                self._changed[row.name] = row.value
                if row.value is not None:
                    self._put(row.name, self.data.get(row.name), row.value)
                elif row.name in self.data:
                    self._delete(row.name)
            else:
                assert row.space == SESSION_SPACE, f"a copy in motion has no space {row.space!r}"
                self._arrived[row.name] = row.value
                if row.value is not None:
                    self._waiting[row.name] = row.value
                else:
                    self._waiting.pop(row.name, None)

    def complete(self) -> None:
        """All rows are here."""
        for name, value in sorted(self._waiting.items()):
            self.sessions.load(name, value)
        self._waiting = {}

    def load_keys(self, keys: dict[str, Value]) -> None:
        """Take back keys that were stored and are not here yet: what ``load`` does for each of them, at once."""
        count = len(self.data) + len(keys)
        self.data.update(keys)
        assert len(self.data) == count, "a key comes once"
        self.bytes += sum(map(size_of, keys)) + sum(map(size_of, keys.values()))

    def load(self, space: str, name: str, value: Value, complete: bool = True) -> None:
        """Take back a row that was stored, of a copy that was complete or not."""
        if space == KEY_SPACE:
            self._put(name, self.data.get(name), value)
        elif space == LEDGER_SPACE:
            assert self._ledger is not None and isinstance(value, str), "only a copy that is watched has a ledger"
            self._ledger.load(name, value)
        else:
            assert space == SESSION_SPACE, f"a copy has no space {space!r}"
            if complete:
                self.sessions.load(name, value)
            else:
                self._waiting[name] = value

    def value(self, space: str, name: str) -> Value | None:
        """A row as it stands; None: it is gone."""
        return self.data.get(name) if space == KEY_SPACE else self.sessions.row(name)

    def changed_beyond(self, number: int) -> Iterator[tuple[int, str, str]]:
        """(number, space, name) of the rows that changed behind a number of the ledger, in its order."""
        return iter(()) if self._ledger is None else self._ledger.beyond(number)

    def shed(self, keys_max: int) -> bool:
        """Give up that many keys of a copy that nobody asks any more; whether any are left."""
        for _ in range(min(keys_max, len(self.data))):
            self.data.popitem()
        return bool(self.data)

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
        """A 32-bit hash of keys, values and sessions, in whichever order they came, and of the ledger's end."""
        total = self.sessions.digest() + self.changes
        for name, value in self._waiting.items():
            assert isinstance(value, bytes), name
            total += zlib.crc32(value, zlib.crc32(name.encode()))
        for key, value in self.data.items():
            named = zlib.crc32(key.encode())
            total += zlib.crc32(value.encode(), named) if isinstance(value, str) else ~zlib.crc32(value, named)
        return total & 0xFFFFFFFF

    def _delete(self, key: str) -> None:
        self.bytes -= size_of(key) + size_of(self.data.pop(key))

    def _put(self, key: str, old: Value | None, new: Value) -> None:
        self.data[key] = new
        self.bytes += size_of(new) + (size_of(key) if old is None else -size_of(old))
