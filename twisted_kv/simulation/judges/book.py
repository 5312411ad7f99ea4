"""A naive twin of what groups do for clients: one table of sessions and one map of values per shard.

It decides what every write and every opening of a session must be answered, and what must be stored behind it, by
carrying out each command once more in the order of the logs, wherever the shard is at the moment. Whatever a group
knows of a shard it must have taken along; what a table of sessions has passed, forgotten or given to somebody else it
must know as such. It also says in its own words where a key belongs.

Source: contract §3; Ongaro's thesis §6.3; hazards 40 to 42; scenarios 11 to 17. It counts answers, not their bytes: no
life comes near those limits. It knows neither groups nor how shards move.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted_kv.constants import SESSION_RESULTS_MAX, SESSIONS_PER_SHARD_MAX
from twisted_kv.machines.commands import Done, Expired, Open, Operation, Read, Refused, Scan, Write, WrongGroup
from twisted_kv.simulation.judges.checkers import BY_THE_BOOK

Told = Done | Refused | Expired | WrongGroup
Asked = tuple[str, str, Any]
"""Verb, key and value: what one number of a session stands for."""

_OVERLOADED: Final = Refused("Overloaded", "")
_ANOTHER: Final = Refused("BadRequest", "")


class Book:
    """What all shards of a cluster must hold.

    Args:
        found: is given each finding: the name of the checker, and what does not hold.

    Attributes:
        sessions_max, results_max: the limits of a shard's table of sessions.
    """

    def __init__(self, found: Callable[[str, str], None]) -> None:
        self.sessions_max = SESSIONS_PER_SHARD_MAX
        self.results_max = SESSION_RESULTS_MAX
        self._found = found
        self._pages: dict[int, _Page] = {}

    def wrote(self, write: Write, outcomes: Sequence[Told], machine: Any, name: str) -> None:
        """A machine stands behind this write, which nobody has applied before, and answers it so."""
        configuration, serving = machine.configuration, machine.serving
        written: dict[str, _Page] = {}
        for operation, outcome in zip(write.operations, outcomes, strict=True):
            shard = home_of(operation.key, len(configuration.shards))
            if shard not in serving:
                self._compare(isinstance(outcome, WrongGroup), operation, outcome, "it is served elsewhere", name)
                continue
            page = written[operation.key] = self._page(shard)
            due = page.answer(operation, configuration.value_bytes_max)
            self._compare(_alike(due, outcome), operation, outcome, due, name)
        for key, page in written.items():
            (stored,) = machine.query(Read((key,)))
            if stored != Done(page.values.get(key)):
                self._found(BY_THE_BOOK, f"{name} holds {stored} for {key}, not {page.values.get(key)!r}")

    def opened(self, opening: Open, outcomes: Sequence[Told], machine: Any, name: str) -> None:
        """Likewise for an opening of sessions."""
        for shard, outcome in zip(opening.shards, outcomes, strict=True):
            if shard in machine.serving:
                due = Done(self._page(shard).open(opening.nonce))
                self._compare(_alike(due, outcome), opening, outcome, due, name)

    def asked(self, query: Any, answer: Any, machine: Any, name: str) -> None:
        """A machine answers a query as it stands: for what it serves, and for nothing else (hazard 44)."""
        if isinstance(query, Scan):
            homes, answers = [query.shard], [answer]
        elif isinstance(query, Read):
            homes, answers = [home_of(key, len(machine.configuration.shards)) for key in query.keys], answer
        else:
            return
        serving = machine.serving
        for shard, told in zip(homes, answers, strict=True):
            if (shard in serving) == isinstance(told, WrongGroup):
                self._found(BY_THE_BOOK, f"{name} serves {sorted(serving)} and answers {told} for shard {shard}")

    def _page(self, shard: int) -> _Page:
        if shard not in self._pages:
            self._pages[shard] = _Page(self.sessions_max, self.results_max)
        return self._pages[shard]

    def _compare(self, holds: bool, asked: Operation | Open, outcome: Told, due: object, name: str) -> None:
        if not holds:
            self._found(BY_THE_BOOK, f"{name} answers {asked} by {outcome}; due is: {due}")


class _Page:
    """One shard."""

    def __init__(self, sessions_max: int, results_max: int) -> None:
        self.values: dict[str, Any] = {}
        self._sessions_max = sessions_max
        self._results_max = results_max
        self._opened = 0
        self._uses = 0
        self._sessions: dict[int, _Session] = {}

    def open(self, nonce: bytes) -> int:
        """The number of the session of this nonce; beyond the limit, the one that was not used for longest goes."""
        number = next((number for number, session in self._sessions.items() if session.nonce == nonce), 0)
        if not number:
            number = self._opened = self._opened + 1
            self._sessions[number] = _Session(nonce)
        self._use(number)
        while len(self._sessions) > self._sessions_max:
            del self._sessions[min(self._sessions, key=lambda other: self._sessions[other].used)]
        return number

    def answer(self, operation: Operation, value_bytes_max: int) -> Told:
        """What an operation is to be answered; carried out if it is neither a repeat nor too late."""
        session = self._sessions.get(operation.session)
        if session is None:
            return Expired()
        self._use(operation.session)
        session.floor = max(session.floor, operation.floor)
        answers = session.answers = {
            sequence: answer for sequence, answer in session.answers.items() if sequence >= session.floor
        }
        asked = (operation.verb, operation.key, operation.value)
        if operation.sequence < session.floor:
            return Expired()
        if operation.sequence in answers:
            first, outcome = answers[operation.sequence]
            return outcome if first == asked else _ANOTHER
        if len(answers) >= self._results_max and operation.sequence > session.floor:
            return _OVERLOADED
        value, outcome = _carried_out(self.values.get(operation.key), asked, value_bytes_max)
        self.values[operation.key] = value
        answers[operation.sequence] = (asked, outcome)
        return outcome

    def _use(self, number: int) -> None:
        self._uses += 1
        self._sessions[number].used = self._uses


class _Session:
    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.floor = 0
        self.used = 0
        self.answers: dict[int, tuple[Asked, Told]] = {}


def home_of(key: str, shards: int) -> int:
    """The shard of a key: by what stands between its first "{" and the "}" that comes next, if there is anything, else
    by all of it.

    >>> home_of("{a}b", 7) == home_of("a", 7), home_of("{}b", 7) == home_of("{}c", 7)
    (True, False)
    """
    tag, closing, _ = key.partition("{")[2].partition("}")
    return zlib.crc32((tag if tag and closing else key).encode()) % shards


def _carried_out(old: Any, asked: Asked, value_bytes_max: int) -> tuple[Any, Told]:
    """The value behind an operation, and its outcome (contract §3)."""
    verb, _, value = asked
    match verb:
        case "p":
            return value, Done()
        case "a" if old is None:
            return value, Done()
        case "a" if type(old) is not type(value):
            return old, Refused("WrongType", "")
        case "a":
            new = old + value
            return (new, Done()) if len(_octets(new)) <= value_bytes_max else (old, Refused("ValueTooLarge", ""))
        case "d":
            return None, Done(old is not None)
    return _hash(_octets(old) + _octets(value)), Done("" if old is None else old)


def _octets(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _hash(octets: bytes) -> str:
    """What put_hash stores: the decimal unsigned 32-bit FNV-1a hash."""
    digest = 2166136261
    for octet in octets:
        digest = (digest ^ octet) * 16777619 % 2**32
    return str(digest)


def _alike(due: Told, outcome: Told) -> bool:
    """Refusals are alike by the name of the error."""
    if isinstance(due, Refused) and isinstance(outcome, Refused):
        return due.error == outcome.error
    return due == outcome
