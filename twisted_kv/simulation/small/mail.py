"""The network between cores: it keeps every message ever sent, and may deliver it late, twice, out of order or never.

It decides when a message arrives, by conditions that others set: which links are cut, how much is lost, doubled or
late, which kinds stay in limbo until there is another leader. What was once sent can be sent again at any time. Time is
a number of turns. It knows no cores; of a message it knows its kind, its sender, its receiver and its term.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from random import Random
from typing import Any, Final

from twisted_kv.simulation.doors.world import chance, one_of, shuffled

REPLAYED_MAX: Final = 40
"""Messages of the past that arrive again at once."""


class Mail:
    """All that is, was and will be under way.

    Attributes:
        cut: (from, to) of the links that let nothing through.
        loss, duplicate: share of the messages that this happens to.
        delays: turns that a message takes; one of them is drawn for each.
        limbo_kinds: names of kinds that are kept back.
        withheld: receiver → names of kinds that are kept back from it; none of them: all.
        leaks: share of what is kept back that arrives now as well.
        arrived: called when a message comes out of limbo.
    """

    def __init__(self, random: Random, arrived: Callable[[], None] = lambda: None) -> None:
        self._random = random
        self._arrived = arrived
        self.turn = 0
        self._due: defaultdict[int, list[Any]] = defaultdict(list)
        self._sent: defaultdict[int, list[Any]] = defaultdict(list)
        self._kinds: defaultdict[int, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._limbo: list[Any] = []
        self.calm()

    def calm(self) -> None:
        """Nothing is cut, lost, doubled, late or kept back from now on."""
        self.cut: set[tuple[int, int]] = set()
        self.loss = self.duplicate = self.leaks = 0.0
        self.delays: tuple[int, ...] = (0,)
        self.limbo_kinds: Collection[str] = ()
        self.withheld: dict[int, Collection[str]] = {}

    def post(self, message: Any) -> None:
        """A message leaves."""
        to, kind = abs(message.to), type(message).__name__
        self._sent[to].append(message)
        self._kinds[to][kind] += 1
        if kind in self.limbo_kinds or (to in self.withheld and kind in (self.withheld[to] or (kind,))):
            self._limbo.append(message)
            if not chance(self._random, self.leaks):
                return
        if self.loss and chance(self._random, self.loss):
            return
        self._send(message)
        if self.duplicate and chance(self._random, self.duplicate):
            self._send(message, one_of(self._random, (0, 1, 3, 10)))

    def arriving(self, deaf: Collection[int]) -> Iterator[Any]:
        """What arrives in this turn, in any order, also of what is sent meanwhile; what is for the deaf waits."""
        while due := self._now_due():
            for message in shuffled(self._random, due):
                if abs(message.to) in deaf:
                    self._due[self.turn + 1].append(message)
                elif (abs(message.sender), abs(message.to)) not in self.cut:
                    yield message

    def release(self) -> None:
        """What was kept back may arrive now; a part of it stays."""
        kept, self._limbo = self._limbo, []
        for message in shuffled(self._random, kept):
            if chance(self._random, 0.7):
                self._send(message, one_of(self._random, (0, 0, 1, 4)))
                self._arrived()
            else:
                self._limbo.append(message)

    def forget(self) -> None:
        """What is kept back never arrives."""
        self._limbo = []

    def replay(self, to: int, wanted: Callable[[Any], bool]) -> int:
        """Some of all that was ever sent to a node arrives again, the latest rather than others; how many."""
        found = [message for message in self._sent[to] if wanted(message)]
        if chance(self._random, 0.5):
            found = found[-2 * REPLAYED_MAX :]
        chosen = shuffled(self._random, found)[:REPLAYED_MAX]
        for message in chosen:
            self._send(message, 0)
        return len(chosen)

    def kinds_sent(self, to: int) -> Mapping[str, int]:
        """How many messages of which kind this node was ever sent, in the order of their first."""
        return dict(self._kinds[to])

    def _now_due(self) -> list[Any]:
        """Also what was sent since the last turn, and before this one began."""
        return [message for turn in sorted(self._due) if turn <= self.turn for message in self._due.pop(turn)]

    def _send(self, message: Any, more: int = 0) -> None:
        self._due[self.turn + one_of(self._random, self.delays) + more].append(message)
