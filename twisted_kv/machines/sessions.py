"""Sessions: every write takes effect once, however often it was sent, with many calls in flight.

Decides, for one shard copy (or for the controller), whether a write that stands in the log is new, a repeat
with a stored answer, or too late to tell. A session opens by a logged command and is numbered by a counter
kept here; each write carries (session, sequence, floor), floor being the lowest sequence whose answer is still
wanted. What is unknown or below the floor is refused, never executed.

Sessions travel with their shard, as rows: ``counter``; one row per session, with its small results; one row
per large result. "Least recently used" means in log order: each use stamps the session from a counter that is
itself a row, so every replica evicts the same session, also one that was restarted or got the shard later.

Source: Ongaro's thesis §6.3; scenarios 11-17; hazards 40-42. Knows neither shards, nor operations, nor time.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from twisted_kv.codec import Codec, Malformed
from twisted_kv.constants import SESSION_RESULT_BYTES_MAX, SESSION_RESULTS_MAX, SESSIONS_PER_SHARD_MAX
from twisted_kv.machines.commands import Done, Expired, Outcome, Refused
from twisted_kv.machines.rows import Value

COUNTER_ROW: Final = "counter"
RESULT_INLINE_BYTES: Final = 1024
"""A larger result has a row of its own, so that no row outgrows a command and small ones are written once."""

_HELD_SESSIONS_WORTH: Final = 4


class Sessions:
    """The sessions of one shard copy.

    Args:
        sessions_max: above it, the session whose last use is the oldest in log order goes.
        results_max: how many answers a session may have waiting for its floor to pass them.
        result_bytes_max: bytes of waiting answers per session. All sessions together hold four times as
            much; beyond it the least recently used go, since a client that vanished never moves its floor.
    """

    def __init__(
        self,
        sessions_max: int = SESSIONS_PER_SHARD_MAX,
        results_max: int = SESSION_RESULTS_MAX,
        result_bytes_max: int = SESSION_RESULT_BYTES_MAX,
    ) -> None:
        assert sessions_max >= 1 and results_max >= 1 and result_bytes_max >= 1
        self._sessions_max = sessions_max
        self._results_max = results_max
        self._result_bytes_max = result_bytes_max
        self._opened = 0
        self._uses = 0
        self._held_bytes = 0
        self._sessions: dict[int, _Session] = {}
        self._numbers: dict[bytes, int] = {}
        self._dirty: set[int] = set()
        self._dirty_results: set[tuple[int, int]] = set()
        self._watcher: Callable[[str], None] | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, nonce: bytes) -> int:
        """The number of the session with this nonce, opened now unless it is there already."""
        number = self._numbers.get(nonce)
        if number is None:
            number = self._opened = self._opened + 1
            self._numbers[nonce] = number
            self._sessions[number] = _Session(nonce)
        self._touch(number, self._sessions[number])
        while len(self._sessions) > self._sessions_max:
            self._evict_oldest()
        return number

    def recall(self, number: int, sequence: int, floor: int, digest: int) -> Done | Refused | Expired | None:
        """What is already known about a write; it counts as a use, and moves the floor.

        Args:
            number: of the session, from ``open``.
            sequence: the client's number of the write in this session.
            floor: the lowest sequence whose answer the client still wants; answers below are dropped.
            digest: a hash, of at most 64 bits, of what the write asks for; the same sequence with another one
                is an error.

        Returns:
            None: execute it now, then ``record``. A stored outcome: it was executed. Expired: nobody knows.
            Refused "Overloaded": not executed, and not recorded either, so another copy of the same write that
            stands later in the log may still be executed.
        """
        session = self._sessions.get(number)
        if session is None:
            return Expired()
        self._touch(number, session)
        if floor > session.floor:
            self._raise_floor(number, session, floor)
        if sequence < session.floor:
            return Expired()
        results = session.results
        if sequence in results:
            first, outcome = results[sequence]
            if first != digest:
                return Refused("BadRequest", f"sequence {sequence} of session {number} was another request")
            return outcome
        full = len(results) >= self._results_max or session.result_bytes >= self._result_bytes_max
        if full and sequence > session.floor:  # the lowest one is let in: without it the floor could not move
            return Refused("Overloaded", f"session {number} has {len(results)} answers waiting")
        return None

    def room_for(self, number: int, result_bytes: int) -> bool:
        """Whether an answer of this size may be stored in the session; ask before executing."""
        session = self._sessions.get(number)
        return session is not None and session.result_bytes + result_bytes <= self._result_bytes_max

    def record(self, number: int, sequence: int, digest: int, outcome: Outcome) -> None:
        """Keep the outcome of a write for which ``recall`` has just said None.

        Only of what was executed, or refused for good: a WrongGroup kept here would swallow the retry at the
        group that does serve the shard (scenario 14).
        """
        assert type(outcome) is Done or type(outcome) is Refused, outcome
        session = self._sessions[number]
        assert sequence >= session.floor and sequence not in session.results
        session.results[sequence] = digest, outcome
        self._mark(number)
        size = 0
        if type(outcome) is not Done or outcome.value is not None:  # nearly all are a plain Done
            size = _size(outcome)
            self._weigh(session, size)
        if size > RESULT_INLINE_BYTES:
            self._mark_result(number, sequence)
        while self._held_bytes > self._result_bytes_max * _HELD_SESSIONS_WORTH and len(self._sessions) > 1:
            self._evict_oldest()

    def take_dirty(self) -> Iterator[tuple[str, Value | None]]:
        """Names and values of the rows that changed since the last call, as they stand now; None deletes.

        Encoded before this returns: what is applied later does not show in it.
        """
        names = [_session_name(number) for number in sorted(self._dirty)]
        names += [_result_name(*result) for result in sorted(self._dirty_results)]
        if self._dirty:
            names.append(COUNTER_ROW)
        self._dirty = set()
        self._dirty_results = set()
        return iter([(name, self.row(name)) for name in names])

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """All rows in ascending order of their names."""
        for name in sorted(self.names()):
            row = self.row(name)
            assert row is not None
            yield name, row

    def load(self, name: str, value: Value) -> None:
        """Take one row in; rows come in ascending order of their names, into an empty object.

        Raises:
            Malformed: the row is damaged, or is the result of a session that is not there.
        """
        assert isinstance(value, bytes), name
        if name == COUNTER_ROW:
            self._opened, self._uses = _COUNTERS.decode(value)
            return
        number, _, sequence = name.partition(".")
        if sequence:
            owner = self._sessions.get(int(number))
            if owner is None:
                raise Malformed(f"a result of session {int(number)}, which is not there")
            self._keep(owner, int(sequence), _RESULTS.decode(value))
            return
        head = _HEADS.decode(value)
        session = self._sessions[int(number)] = _Session(head.nonce, head.floor, head.used)
        self._numbers[head.nonce] = int(number)
        for sequence_number, result in head.results:
            self._keep(session, sequence_number, result)

    def watch(self, watcher: Callable[[str], None]) -> None:
        """Tell of every change from now on the name of the row that it changes."""
        self._watcher = watcher

    def names(self) -> Iterator[str]:
        """The names of all rows, in no order."""
        for number, session in self._sessions.items():
            yield _session_name(number)
            yield from [
                _result_name(number, sequence) for sequence, result in session.results.items() if not _inline(result)
            ]
        if self._opened:
            yield COUNTER_ROW

    def row(self, name: str) -> bytes | None:
        """A row as it stands; None: there is none of this name."""
        if name == COUNTER_ROW:
            return _COUNTERS.encode((self._opened, self._uses)) if self._opened else None
        number, _, sequence = name.partition(".")
        session = self._sessions.get(int(number))
        if session is None or not sequence:
            return None if session is None else session.head()
        result = session.results.get(int(sequence))
        return None if result is None or _inline(result) else _RESULTS.encode(result)

    def digest(self) -> int:
        """A 32-bit hash of all rows."""
        digest = 0
        for name, value in self.rows():
            digest = zlib.crc32(value, zlib.crc32(name.encode(), digest))
        return digest

    def _touch(self, number: int, session: _Session) -> None:
        self._uses = session.used = self._uses + 1
        self._mark(number)

    def _raise_floor(self, number: int, session: _Session, floor: int) -> None:
        """Forget the answers below it: that is all, where none of them weighs anything or has a row of its own."""
        results, light = session.results, session.result_bytes == 0 <= RESULT_INLINE_BYTES
        passed = range(session.floor, floor) if floor - session.floor < len(results) else [*results]
        session.floor = floor
        for sequence in passed:
            if sequence < floor and sequence in results:
                if light:
                    del results[sequence]
                else:
                    self._drop(number, session, sequence)

    def _evict_oldest(self) -> None:
        number, session = min(self._sessions.items(), key=lambda item: item[1].used)
        for sequence in [*session.results]:
            self._drop(number, session, sequence)
        del self._sessions[number]
        del self._numbers[session.nonce]
        self._mark(number)

    def _keep(self, session: _Session, sequence: int, result: _Result) -> None:
        session.results[sequence] = result
        self._weigh(session, _size(result[1]))

    def _drop(self, number: int, session: _Session, sequence: int) -> None:
        _, outcome = session.results.pop(sequence)
        size = _size(outcome)
        self._weigh(session, -size)
        if size > RESULT_INLINE_BYTES:
            self._mark_result(number, sequence)

    def _weigh(self, session: _Session, size: int) -> None:
        session.result_bytes += size
        self._held_bytes += size

    def _mark(self, number: int) -> None:
        self._dirty.add(number)
        if self._watcher is not None:
            self._watcher(_session_name(number))
            self._watcher(COUNTER_ROW)

    def _mark_result(self, number: int, sequence: int) -> None:
        self._dirty_results.add((number, sequence))
        if self._watcher is not None:
            self._watcher(_result_name(number, sequence))


_Result = tuple[int, Done | Refused]
"""The digest of what was asked for, and what became of it."""


def _size(outcome: Done | Refused) -> int:
    """Bytes of the answer that the client may choose the size of; a flat 0 for None and bool."""
    value = outcome.value if isinstance(outcome, Done) else outcome.text
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    return len(value) if isinstance(value, bytes) else 0


def _inline(result: _Result) -> bool:
    return _size(result[1]) <= RESULT_INLINE_BYTES


class _Head(msgspec.Struct, frozen=True, array_like=True):
    nonce: bytes
    floor: int
    used: int
    results: tuple[tuple[int, _Result], ...]


class _Session:
    __slots__ = ("floor", "nonce", "result_bytes", "results", "used")

    def __init__(self, nonce: bytes, floor: int = 0, used: int = 0) -> None:
        self.nonce = nonce
        self.floor = floor
        self.used = used
        self.results: dict[int, _Result] = {}
        self.result_bytes = 0

    def head(self) -> bytes:
        """The body of the session's own row."""
        inline = tuple((sequence, result) for sequence, result in sorted(self.results.items()) if _inline(result))
        return _HEADS.encode(_Head(self.nonce, self.floor, self.used, inline))


def _session_name(number: int) -> str:
    return f"{number:016d}"


def _result_name(number: int, sequence: int) -> str:
    return f"{number:016d}.{sequence:016d}"


_COUNTERS: Codec[tuple[int, int]] = Codec(tuple[int, int])
_HEADS: Codec[_Head] = Codec(_Head)
_RESULTS: Codec[_Result] = Codec(_Result)
