"""Clients that call, one call or a few at once, again and again, and write down what they were told.

Two kinds, as in the public labs (scenarios §2.2): an Owner appends unique tokens to a key of its own and knows what a
read must give; a Rambler picks shared keys and any verb, and only the history can judge it. They may share a Clerk,
which may be closed under them and replaced. An Administrator changes the configuration under all. Every call ends in
exactly one entry of the history: succeeded, failed for certain, or unknown. They know Clerks by their calls, and
nothing of servers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twisted_kv.errors import KVError
from twisted_kv.simulation.doors.world import between, chance, one_of, weighted
from twisted_kv.simulation.judges.history import Call, History, Verb

CALLS_PER_KEY_MAX: Final = 300
UNKNOWN_PER_KEY_MAX: Final = 4
"""A key is given up after so many calls, or so many of unknown outcome: what the checker has to try grows with them."""

CANCEL_SECONDS: Final = (0.01, 0.1)
"""Within one of these times a call is cancelled, if it is: mostly while an attempt is under way."""
FIDGET_MOVES: Final = 0.6
FIDGET_PACE: Final = 0.3
"""Of an administrator who fidgets, so many changes move a favourite shard, and so long are the pauses."""

LOOKS_BACK: Final = 0.3
"""Before so many changes an administrator also asks for an older configuration, or the very first one."""

LAB_MIX: Final[Mapping[Verb, float]] = {"append": 0.5, "put": 0.05, "get": 0.45}
FULL_MIX: Final[Mapping[Verb, float]] = {"append": 0.35, "put": 0.1, "get": 0.4, "delete": 0.05, "put_hash": 0.1}


def with_reads(mix: Mapping[Verb, float], reads: float | None) -> Mapping[Verb, float]:
    """The mix with so great a share of reads, all else in proportion; None: as it is.

    >>> with_reads({"append": 0.5, "put": 0.5, "get": 1.0}, 0.2)
    {'append': 0.4, 'put': 0.4, 'get': 0.2}
    """
    if reads is None:
        return mix
    others = sum(weight for verb, weight in mix.items() if verb != "get")
    return {verb: reads if verb == "get" else weight * (1 - reads) / others for verb, weight in mix.items()}


class IClerk(Protocol):
    """The calls of a Clerk (contract §3). Each fires with the result or fails with a KVError."""

    def put(self, key: str, value: str, *, timeout: float) -> Deferred[None]: ...
    def append(self, key: str, value: str, *, timeout: float) -> Deferred[None]: ...
    def get(self, key: str, default: Any = "", *, timeout: float) -> Deferred[Any]: ...
    def delete(self, key: str, *, timeout: float) -> Deferred[bool]: ...
    def put_hash(self, key: str, value: str, *, timeout: float) -> Deferred[Any]: ...


class IMortalClerk(IClerk, Protocol):
    """A Clerk that can be closed."""

    def close(self) -> Deferred[None]: ...


class IAdministrator(Protocol):
    """The calls of a ControllerClerk (contract §3)."""

    def join(self, groups: Mapping[int, Sequence[str]], *, timeout: float) -> Deferred[Any]: ...
    def leave(self, gids: Iterable[int], *, timeout: float) -> Deferred[Any]: ...
    def move(self, shard: int, gid: int, *, timeout: float) -> Deferred[Any]: ...
    def query(self, num: int = -1, *, timeout: float) -> Deferred[Any]: ...


class Clerks:
    """An IClerk behind which one Clerk after the other is closed, with calls in flight; those must all end at once.

    Args:
        make: makes the next one; ids of two of them must differ.

    Attributes:
        wrong: what became of their calls that may not be, in words.
    """

    def __init__(self, make: Callable[[], IMortalClerk]) -> None:
        self._make = make
        self._clerk = make()
        self._in_flight: dict[Deferred[Any], None] = {}
        self.wrong: list[str] = []

    def put(self, key: str, value: str, *, timeout: float) -> Deferred[None]:
        return self._begun(self._clerk.put(key, value, timeout=timeout))

    def append(self, key: str, value: str, *, timeout: float) -> Deferred[None]:
        return self._begun(self._clerk.append(key, value, timeout=timeout))

    def get(self, key: str, default: Any = "", *, timeout: float) -> Deferred[Any]:
        return self._begun(self._clerk.get(key, default, timeout=timeout))

    def delete(self, key: str, *, timeout: float) -> Deferred[bool]:
        return self._begun(self._clerk.delete(key, timeout=timeout))

    def put_hash(self, key: str, value: str, *, timeout: float) -> Deferred[Any]:
        return self._begun(self._clerk.put_hash(key, value, timeout=timeout))

    def replace(self) -> None:
        """Close the present one; the next call goes to another."""
        closing, self._clerk = self._clerk, self._make()
        in_flight = list(self._in_flight)
        closing.close()
        left = sum(call in self._in_flight for call in in_flight)
        if left:
            self.wrong.append(f"a Clerk was closed with {len(in_flight)} calls in flight, and {left} have not ended")

    def _begun(self, call: Deferred[Any]) -> Deferred[Any]:
        def ended(result: Any) -> Any:
            del self._in_flight[call]
            return result

        self._in_flight[call] = None
        return call.addBoth(ended)


class Client(ABC):
    """A closed loop: call, write down, pause, again, until stopped. Subclasses choose what to call.

    Args:
        pause_seconds: (least, most) time between two calls.
        timeout: seconds that a call may take.
        cancels: share of the calls that are cancelled after a short while.

    Attributes:
        wrong: what it was told that cannot be, in words, besides what the history will show.
    """

    def __init__(
        self,
        name: str,
        clerk: IClerk,
        history: History,
        clock: IReactorTime,
        random: Random,
        pause_seconds: tuple[float, float] = (0.0, 0.05),
        timeout: float = 10.0,
        cancels: float = 0.0,
    ) -> None:
        self.name = name
        self._clerk = clerk
        self._history = history
        self._clock = clock
        self._random = random
        self._pause_seconds = pause_seconds
        self._timeout = timeout
        self._cancels = cancels
        self._tokens = 0
        self._stopping = False
        self.idle = True
        self.wrong: list[str] = []

    def start(self) -> None:
        """Begin to call."""
        self.idle = False
        ensureDeferred(self._live()).addErrback(lambda failure: self.wrong.append(failure.getTraceback()))

    def stop(self) -> None:
        """Make no further call; ``idle`` once the present one has come back."""
        self._stopping = True

    @abstractmethod
    def choose(self) -> tuple[Verb, str, str | None]:
        """The next call: verb, key, argument."""

    def choices(self) -> Sequence[tuple[Verb, str, str | None]]:
        """Calls to make at once, each on another key."""
        return [self.choose()]

    # Not every client keeps account of these two.

    def succeeded(self, call: Call) -> None:  # noqa: B027
        """The outcome of a call is known: it took effect."""

    def unsettled(self, call: Call) -> None:  # noqa: B027
        """The outcome of a call is unknown."""

    def token(self) -> str:
        """Text that nobody has written before and that cannot arise where others meet."""
        self._tokens += 1
        return f"<{self.name}.{self._tokens}>"

    async def _live(self) -> None:
        while not self._stopping:
            under_way = [ensureDeferred(self._call(*choice)) for choice in self.choices()]
            for call in under_way:
                await call
            # Several at once are no more calls in all.
            await deferLater(self._clock, sum(between(self._random, *self._pause_seconds) for _ in under_way))
        self.idle = True

    async def _call(self, verb: Verb, key: str, argument: str | None) -> None:
        call = self._history.begin(self.name, verb, key, argument, self._clock.seconds())
        asked = self._asked(verb, key, argument or "")
        if chance(self._random, self._cancels):
            seconds = between(self._random, 0.0, one_of(self._random, CANCEL_SECONDS))
            self._clock.callLater(seconds, asked.cancel)
        try:
            result = await asked
        except (KVError, CancelledError) as error:
            if verb == "get" or (isinstance(error, KVError) and error.definite):
                self._history.failed(call)
            else:
                self._history.unknown(call)
                self.unsettled(call)
        else:
            self._history.succeeded(call, result)
            self.succeeded(call)

    def _asked(self, verb: Verb, key: str, argument: str) -> Deferred[Any]:
        match verb:
            case "get":
                return self._clerk.get(key, None, timeout=self._timeout)
            case "put":
                return self._clerk.put(key, argument, timeout=self._timeout)
            case "append":
                return self._clerk.append(key, argument, timeout=self._timeout)
            case "delete":
                return self._clerk.delete(key, timeout=self._timeout)
            case "put_hash":
                return self._clerk.put_hash(key, argument, timeout=self._timeout)


class Owner(Client):
    """Appends to, and reads, a key that nobody else writes; what a read gives is known beforehand.

    After a call of unknown outcome nothing is known of that key any more: another one is taken.
    """

    _generation = 0
    _calls = 0
    _value: str | None = None

    def choose(self) -> tuple[Verb, str, str | None]:
        if self._calls == CALLS_PER_KEY_MAX:
            self._take_another_key()
        self._calls += 1
        key = f"{{{self.name}}}/{self._generation}"
        if self._random.random() < 0.5:
            return "append", key, self.token()
        return "get", key, None

    def succeeded(self, call: Call) -> None:
        if call.verb == "append":
            self._value = (self._value or "") + (call.argument or "")
        elif call.result != self._value:
            self.wrong.append(f"{self.name} read {call.result!r} of {call.key} and had written {self._value!r}")

    def unsettled(self, call: Call) -> None:
        self._take_another_key()

    def _take_another_key(self) -> None:
        self._generation += 1
        self._calls, self._value = 0, None


SPELLINGS: Final = ("{{key{}}}/{}", "{{}}key{}/{}", "{{key{}/{}")


class SharedKeys:
    """Keys that many clients use, each replaced in time by a fresh one.

    That is in the same shard if they have a tag; others have none, since it would be empty, or does not end.
    """

    def __init__(self, count: int) -> None:
        self._keys = [_SharedKey(place, 0) for place in range(count)]

    @property
    def names(self) -> Sequence[str]:
        """As they are at the moment."""
        return [key.name for key in self._keys]

    def pick(self, random: Random) -> str:
        """One of them."""
        place = one_of(random, range(len(self._keys)))
        key = self._keys[place]
        if key.calls >= CALLS_PER_KEY_MAX or key.unknown >= UNKNOWN_PER_KEY_MAX:
            key = self._keys[place] = _SharedKey(place, key.generation + 1)
        key.calls += 1
        return key.name

    def unsettled(self, name: str) -> None:
        """A call on it has an unknown outcome."""
        for key in self._keys:
            key.unknown += key.name == name


class _SharedKey:
    def __init__(self, place: int, generation: int) -> None:
        self.generation = generation
        self.name = SPELLINGS[place % len(SPELLINGS)].format(place, generation)
        self.calls = 0
        self.unknown = 0


class Rambler(Client):
    """Calls anything on any shared key.

    Args:
        at_once: so many calls, if there are as many keys.
    """

    def __init__(
        self,
        *arguments: Any,
        keys: SharedKeys,
        mix: Mapping[Verb, float] = LAB_MIX,
        at_once: int = 1,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._keys = keys
        self._mix = mix
        self._at_once = at_once

    def choices(self) -> Sequence[tuple[Verb, str, str | None]]:
        chosen = {choice[1]: choice for choice in (self.choose() for _ in range(self._at_once))}
        return list(chosen.values())

    def choose(self) -> tuple[Verb, str, str | None]:
        key = self._keys.pick(self._random)
        verb = weighted(self._random, self._mix)
        return verb, key, None if verb in ("get", "delete") else self.token()

    def unsettled(self, call: Call) -> None:
        self._keys.unsettled(call.key)


class Administrator:
    """Joins, leaves and moves, one change after the other; now and then all groups leave.

    Args:
        groups: gid → endpoints of every group there is, listed or not.
        shards: how many there are.
        favourites: shards that it moves to and fro, if there are any: it fidgets.
    """

    def __init__(
        self,
        clerk: IAdministrator,
        groups: Mapping[int, Sequence[str]],
        shards: int,
        clock: IReactorTime,
        random: Random,
        pause_seconds: tuple[float, float],
        timeout: float = 10.0,
        favourites: Sequence[int] = (),
    ) -> None:
        self._clerk = clerk
        self._groups = groups
        self._shards = shards
        self._clock = clock
        self._random = random
        self._pause_seconds = pause_seconds
        self._timeout = timeout
        self._favourites = favourites
        self._pace = FIDGET_PACE if favourites else 1.0
        self._stopping = False
        self.idle = True
        self.changes = 0
        self.wrong: list[str] = []

    def start(self) -> None:
        """Begin to change."""
        self.idle = False
        ensureDeferred(self._live()).addErrback(lambda failure: self.wrong.append(failure.getTraceback()))

    def stop(self) -> None:
        """Make no further change; ``idle`` once the present one has come back."""
        self._stopping = True

    async def _live(self) -> None:
        while not self._stopping:
            await deferLater(self._clock, between(self._random, *self._pause_seconds) * self._pace)
            try:
                await self._change()
                self.changes += 1
            except KVError:
                continue  # the next change begins with a query: what became of this one is found out there
        self.idle = True

    async def _change(self) -> None:
        newest = await self._clerk.query(-1, timeout=self._timeout)
        if self._random.random() < LOOKS_BACK:
            past = one_of(self._random, (0, int(self._random.random() * (newest.num + 1))))
            await self._clerk.query(past, timeout=self._timeout)
        listed = sorted(newest.groups)
        others = [gid for gid in sorted(self._groups) if gid not in listed]
        if len(listed) > 1 and self._favourites and self._random.random() < FIDGET_MOVES:
            shard = one_of(self._random, self._favourites)
            elsewhere = [gid for gid in listed if gid != newest.shards[shard]]
            await self._clerk.move(shard, one_of(self._random, elsewhere), timeout=self._timeout)
            return
        drawn = self._random.random()
        if others and (not listed or drawn < 0.4):
            some = [gid for gid in others if self._random.random() < 0.5] or [one_of(self._random, others)]
            await self._clerk.join({gid: self._groups[gid] for gid in some}, timeout=self._timeout)
        elif drawn < 0.75:
            away = [gid for gid in listed if self._random.random() < 0.4] or [one_of(self._random, listed)]
            await self._clerk.leave(away, timeout=self._timeout)
        else:
            shard = one_of(self._random, range(self._shards))
            await self._clerk.move(shard, one_of(self._random, listed), timeout=self._timeout)
