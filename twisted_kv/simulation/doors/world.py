"""A world: one seed, and from it the time, the chance and the record of everything that happens.

It decides when things happen and what every actor's dice show, and keeps a trace whose digest two runs of a seed
must share. It knows no cluster, network or disk. Chance is drawn by ``random()`` and ``getrandbits()`` only, which
give the same numbers on every Python.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final, NamedTuple, TypeVar

from twisted_kv.simulation.doors.clock import HostClock, VirtualClock
from twisted_kv.simulation.doors.rare import RARE

EVENTS_KEPT: Final = 4000

T = TypeVar("T")


class World:
    """Time, randomness and trace of one simulated run.

    Args:
        seed: two worlds of one seed, driven by the same program, live the same life.
        sink: is given every event as it is noted, for a printed trace.

    Attributes:
        reached: how often each rare event that happened at all has happened.
    """

    def __init__(self, seed: int, sink: Callable[[Event], None] | None = None) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self.trace = Trace(self.clock, sink)
        self.events = 0
        self.reached: dict[str, int] = {}

    def reach(self, name: str) -> None:
        """A rare event happened, for certain; its name is one of RARE."""
        assert name in RARE, f"{name!r} is not listed in RARE"
        self.reached[name] = self.reached.get(name, 0) + 1

    def random_for(self, actor: str) -> Random:
        """The dice of one actor: they depend on the seed and the name, not on what others draw."""
        digest = hashlib.sha256(f"{self.seed}/{actor}".encode()).digest()
        return Random(int.from_bytes(digest[:16], "big"))

    def host(self, name: str) -> Host:
        """A freshly booted host; a second one of the same name is the first one restarted."""
        return Host(name, HostClock(self.clock, name))

    def run_until(self, predicate: Callable[[], bool], seconds_max: float) -> bool:
        """Let things happen until the predicate holds; it is asked each time before time passes.

        Returns:
            whether it held within ``seconds_max`` seconds of virtual time.
        """
        deadline = self.clock.seconds() + seconds_max
        while True:
            due = self.clock.next_due()
            if due is None or due > self.clock.seconds():
                if predicate():
                    return True
                if due is None or due > deadline:
                    self.clock.pass_until(deadline)
                    return False
            self.events += 1
            self.clock.step()

    def run_for(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        self.run_until(lambda: False, seconds)


class Host(NamedTuple):
    """A place where actors live, from one boot to the next crash."""

    name: str
    clock: HostClock


class Event(NamedTuple):
    """Something that happened: when (seconds), to whom, what, and the facts of it."""

    at: float
    actor: str
    what: str
    facts: tuple[tuple[str, object], ...]

    def __str__(self) -> str:
        facts = " ".join(f"{name}={value}" for name, value in self.facts)
        return f"{self.at:12.6f} {self.actor:<16} {self.what} {facts}".rstrip()


class Trace:
    """Every event counts in the digest; the last EVENTS_KEPT are kept to be read, and as many of the story: what
    happened besides the traffic."""

    def __init__(self, clock: VirtualClock, sink: Callable[[Event], None] | None = None) -> None:
        self._clock = clock
        self._sink = sink
        self._sha = hashlib.sha256()
        self.recent: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.story: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.count = 0

    def note(self, actor: str, what: str, **facts: object) -> Event:
        """Something happened now. Facts must print alike in every run: numbers, names, digests."""
        event = Event(self._clock.seconds(), actor, what, tuple(facts.items()))
        self.count += 1
        self._sha.update(str(event).encode())
        self._sha.update(b"\n")
        self.recent.append(event)
        if self._sink is not None:
            self._sink(event)
        return event

    def tell(self, actor: str, what: str, **facts: object) -> None:
        """As note, and it belongs to the story."""
        self.story.append(self.note(actor, what, **facts))

    def digest(self) -> str:
        """What two runs of one seed have in common."""
        return self._sha.hexdigest()


def between(random: Random, low: float, high: float) -> float:
    """A number drawn evenly from low to high."""
    return low + (high - low) * random.random()


def chance(random: Random, probability: float) -> bool:
    """Whether something of this probability happens now. Always draws, so that knobs do not shift later draws."""
    return random.random() < probability


def one_of(random: Random, choices: Sequence[T]) -> T:
    """One of them, each as likely."""
    return choices[int(random.random() * len(choices))]


def weighted(random: Random, weights: Mapping[T, float]) -> T:
    """One of the keys, each as likely as its weight says; there must be one of weight above 0."""
    drawn = random.random() * sum(weights.values())
    for choice, weight in weights.items():
        drawn -= weight
        if drawn < 0:
            return choice
    return choice


def shuffled(random: Random, items: Sequence[T]) -> list[T]:
    """The items in any order, each order as likely (Fisher and Yates)."""
    order = list(items)
    for last in range(len(order) - 1, 0, -1):
        other = int(random.random() * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order
