"""Clerks that write down what they ask and are told, and the judgement of what was written.

Public through ``twisted_kv.testing``. A call that failed for certain leaves no trace; one of unknown outcome stays
open. It knows Clerks and the checker, and nothing of servers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_kv.client import clerk
from twisted_kv.constants import CALL_TIMEOUT_SECONDS
from twisted_kv.errors import KVError
from twisted_kv.interfaces import INetwork
from twisted_kv.simulation.judges.history import Call, History, Verb
from twisted_kv.simulation.judges.linearizability import findings

T = TypeVar("T")
Value = str | bytes


class Misused(RuntimeError):
    """The test asks for something that makes no sense; the text says what to do instead."""


class NotLinearizable(AssertionError):
    """What the Clerks were told cannot have happened in any order, or the checker could not decide."""


class RecordedHistory:
    """What Clerks asked and were told, in the order in which it happened.

    Attributes:
        clerks: names of all hosts of clients.
        unjudged: keys that ``check`` leaves out: put_hash met bytes that are not ASCII there.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._history = History()
        self._clock = clock
        self._hashed: set[str] = set()
        self._binary: set[str] = set()
        self.clerks: list[str] = []

    def __len__(self) -> int:
        return len(self._history)

    @property
    def calls(self) -> Sequence[Call]:
        """All calls that took effect or may have, in the order in which they were made. Bytes are shown as Latin-1."""
        return sorted([call for calls in self._history.by_key().values() for call in calls], key=_invoked)

    @property
    def open(self) -> Sequence[Call]:
        """Calls that have not come back."""
        return self._history.open

    @property
    def unjudged(self) -> frozenset[str]:
        return frozenset(self._hashed & self._binary)

    def check(self, least: int = 1) -> None:
        """Whether some order of all calls explains what everybody was told, key by key.

        Args:
            least: calls without which a check means nothing.
        Raises:
            NotLinearizable: there is no such order, or none was found within the checker's steps. Misused: there
                are fewer calls than ``least``.
        """
        if len(self) < least:
            raise Misused(f"{len(self)} calls were recorded, {least} are needed: there is nothing to check")
        for finding in findings(self._history):
            if finding.key not in self.unjudged:
                calls = "".join([f"\n  {call}" for call in self._history.by_key()[finding.key]])
                raise NotLinearizable(f"{finding.key!r}: {finding.verdict.value}: {finding.reason}{calls}")

    def record(
        self, client: str, verb: Verb, key: str, value: Value | None, ask: Callable[[], Deferred[T]]
    ) -> Deferred[T]:
        """Write down a call and what comes of it; gives what ``ask`` gives."""
        if isinstance(value, bytes) and not value.isascii():
            self._binary.add(key)
        if verb == "put_hash":
            self._hashed.add(key)
        call = self._history.begin(client, verb, key, _text(value), self._clock.seconds())
        return ask().addCallbacks(self._came_back, self._failed, callbackArgs=(call,), errbackArgs=(call,))

    def _came_back(self, result: T, call: Call) -> T:
        self._history.succeeded(call, result if isinstance(result, bool) else _text(result))
        return result

    def _failed(self, failure: Failure, call: Call) -> Failure:
        certain = isinstance(failure.value, KVError) and failure.value.definite
        if certain or call.verb == "get":
            self._history.failed(call)
        else:
            self._history.unknown(call)
        return failure


class SimulatedClerk(clerk.Clerk):
    """A Clerk whose calls are recorded. Everything else is the public Clerk's.

    Attributes:
        name: of its host.
    """

    def __init__(
        self,
        name: str,
        history: RecordedHistory,
        controllers: Sequence[str],
        clock: IReactorTime,
        random: Random,
        network: INetwork,
    ) -> None:
        super().__init__(controllers, clock, random, network)
        self.name = name
        self._record = history.record

    def get(self, key: str, default: Any = "", *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Any]:
        ask = super().get
        asked = self._record(self.name, "get", key, None, lambda: ask(key, None, timeout=timeout))
        return asked.addCallback(lambda value: default if value is None else value)

    def put(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[None]:
        ask = super().put
        return self._record(self.name, "put", key, value, lambda: ask(key, value, timeout=timeout))

    def append(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[None]:
        ask = super().append
        return self._record(self.name, "append", key, value, lambda: ask(key, value, timeout=timeout))

    def delete(self, key: str, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[bool]:
        ask = super().delete
        return self._record(self.name, "delete", key, None, lambda: ask(key, timeout=timeout))

    def put_hash(self, key: str, value: Value, *, timeout: float = CALL_TIMEOUT_SECONDS) -> Deferred[Any]:
        ask = super().put_hash
        return self._record(self.name, "put_hash", key, value, lambda: ask(key, value, timeout=timeout))


def _text(value: Any) -> str | None:
    """A value as the checker compares it; Latin-1, since it joins as the bytes do."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def _invoked(call: Call) -> int:
    return call.invoked
