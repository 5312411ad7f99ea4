"""The simulated network door: the same verbs, the same bytes, the same doors, with every way of not arriving.

It decides, from the world's dice and the conditions of each link, when a request reaches a door and whether its
answer comes back. A link is a pair of hosts in one direction. What a caller may conclude is what it could conclude
on a real network: NotSent only when a host refused the connection or none could be made; everything else that goes
wrong is LostAnswer, also when the request never arrived. There is no order between messages.

The figures of UNRELIABLE, LONG_REORDERING and LONG_DELAYS are those of the public labs (scenarios §2.0.1); limbo is
the held-back message of hazards §0.5. It opens no body and knows no verb.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Final

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_kv.interfaces import Door, INetwork, LostAnswer, NotSent
from twisted_kv.simulation.doors.world import Host, World, between, chance

RELEASE_SECONDS: Final = 0.1
"""Within this time the callers of a server that died learn that their connection is gone."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """How a link treats what crosses it. Pairs are (least, most) seconds, drawn evenly; the rest are probabilities.

    Attributes:
        request_seconds, reply_seconds: time on the way.
        request_loss, reply_loss: it never arrives.
        silence: of those whose request or answer is lost, so many see nothing; the rest see the connection drop.
        duplicate: the request arrives twice; the second answer goes nowhere. Of a call the second time comes before
            the caller was told anything, and then nothing is told: no stream carries a request again that was answered.
        late: it is held back ``late_seconds`` more.
        limbo: a one-way message is kept until ``Hub.release_limbo``; its duplicate, if it has one, is not.
        dead_seconds: how long a caller waits to learn that the other side is gone or cut off.
        strange: a call is carried out, and its door then fails in words that are not ours; on streams only.
    """

    request_seconds: tuple[float, float] = (0.001, 0.005)
    reply_seconds: tuple[float, float] = (0.001, 0.005)
    request_loss: float = 0.0
    reply_loss: float = 0.0
    silence: float = 0.4
    duplicate: float = 0.0
    late: float = 0.0
    late_seconds: tuple[float, float] = (0.2, 2.2)
    limbo: float = 0.0
    dead_seconds: tuple[float, float] = (0.0, 0.1)
    strange: float = 0.0


RELIABLE: Final = Conditions()
UNRELIABLE: Final = Conditions(request_seconds=(0.0, 0.026), request_loss=0.1, reply_loss=0.1)
LONG_REORDERING: Final = Conditions(late=2 / 3)
LONG_DELAYS: Final = Conditions(dead_seconds=(0.0, 7.0))


class Tally(msgspec.Struct):
    """What crossed the network.

    Attributes:
        attempts: by verb, everything that was sent or called, delivered or not.
        served: by endpoint, what reached a door.
        bytes: of requests when sent, and of answers that came back.
    """

    attempts: Counter[str] = msgspec.field(default_factory=Counter)
    served: Counter[str] = msgspec.field(default_factory=Counter)
    bytes: int = 0


class Hub:
    """All links of a world, and who listens where.

    Attributes:
        conditions: of every link that is not shaped apart.
        tally: what crossed.
        broken: how doors failed; a door has no expected failures.
        left: what hosts that have closed everything did not give back, in words.
        misread: what a caller was told of a strange error, in words, if it may not be.
        withheld: (host that sends, body) → whether this one-way message goes into limbo, besides those by chance.
    """

    def __init__(self, world: World, conditions: Conditions = RELIABLE) -> None:
        self.world = world
        self.conditions = conditions
        self.tally = Tally()
        self.broken: list[Failure] = []
        self.left: list[str] = []
        self.misread: list[str] = []
        self.random = world.random_for("network")
        self._listeners: dict[str, Listener] = {}
        self._homes: dict[str, str] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._shaped: dict[tuple[str, str], Conditions] = {}
        self._limbo: list[Letter] = []
        self.withheld: Callable[[str, bytes], bool] = _never

    def at(self, host: Host) -> INetwork:
        """The network as this host sees it."""
        return SimNetwork(self, host)

    def listen(self, endpoint: str, host: Host, doors: Mapping[str, Door]) -> None:
        """From now on, what is sent to the endpoint goes to these doors, in turns of the host's own clock."""
        assert endpoint not in self._listeners, f"{endpoint} is in use"
        self._listeners[endpoint] = Listener(endpoint, host, doors)
        self._homes[endpoint] = host.name

    def listens(self, endpoint: str) -> bool:
        """Whether anybody is there."""
        return endpoint in self._listeners

    def unlisten(self, endpoint: str) -> None:
        """Nobody is there any more: answers still to come are suppressed, their callers see the connection drop."""
        listener = self._listeners.pop(endpoint)
        listener.closed = True
        for letter in listener.inside:
            delay = between(self.random, 0.0, RELEASE_SECONDS)
            self.world.clock.callLater(delay, letter.fail, LostAnswer(f"{endpoint} went away"))

    def died(self, host: Host, silent: bool = False) -> None:
        """A process is gone, and with it whatever listened there.

        Args:
            silent: so is the power; letters do not know the difference.
        """
        for endpoint in [name for name, listener in self._listeners.items() if listener.host is host]:
            self.unlisten(endpoint)

    @property
    def hosts(self) -> Sequence[Host]:
        """Every process that has something to close."""
        return ()

    def closed(self, host: Host) -> Deferred[None]:
        """A process closes all that it has open; fires when that is done. Letters leave nothing open."""
        return succeed(None)

    def cut(self, source: str, target: str) -> None:
        """Nothing from source reaches target, also what is on its way. The other direction is another link."""
        self._cuts.add((source, target))

    def partition(self, *sides: Iterable[str]) -> None:
        """Cut every link between hosts of different sides; hosts on no side keep all their links."""
        for here, there in permutations([tuple(side) for side in sides], 2):
            self._cuts.update((source, target) for source in here for target in there)

    def shape(self, source: str, target: str, conditions: Conditions) -> None:
        """This link alone behaves otherwise."""
        self._shaped[source, target] = conditions

    def bridge(self, one: Iterable[str], other: Iterable[str], both: str) -> None:
        """Cut two sides off from each other, all but one host that stands on both."""
        self.partition([name for name in one if name != both], [name for name in other if name != both])

    def ring(self, hosts: Sequence[str]) -> None:
        """Of these hosts each sees only the one before it and the one after it."""
        for place, source in enumerate(hosts):
            neighbours = (hosts[place - 1], hosts[(place + 1) % len(hosts)])
            self._cuts.update((source, target) for target in hosts if target != source and target not in neighbours)

    @property
    def cuts(self) -> Sequence[tuple[str, str]]:
        """Links that are cut, in the order of their names."""
        return sorted(self._cuts)

    def mend(self, source: str, target: str) -> None:
        """This link alone is whole again; it may have been so already."""
        self._cuts.discard((source, target))

    def heal(self) -> None:
        """Every link is whole and like all others."""
        self._cuts.clear()
        self._shaped.clear()

    def release_limbo(
        self, of: Callable[[str], bool] | None = None, twice: bool = False, elected: bool = False
    ) -> None:
        """What was kept in limbo travels on now.

        Args:
            of: only what these hosts sent; None: all.
            twice: it stays there as well, to arrive again at another time.
            elected: because somebody began to lead.
        """
        kept = [letter for letter in self._limbo if of is None or of(letter.source.name)]
        if not twice:
            self._limbo = [letter for letter in self._limbo if not (of is None or of(letter.source.name))]
        for letter in kept:
            again = letter.echo() if twice else letter
            again.outlived = again.outlived or elected
            self._travel(again, between(self.random, *self.conditions.request_seconds))

    # What follows is for letters and networks.

    def post(self, letter: Letter) -> None:
        """A request leaves its source."""
        self.tally.attempts[letter.verb] += 1
        self.tally.bytes += len(letter.body)
        link = self.link(letter.source.name, letter.target)
        delay = between(self.random, *link.request_seconds)
        if chance(self.random, link.late):
            delay += between(self.random, *link.late_seconds)
        echoed = chance(self.random, link.duplicate)
        kept = chance(self.random, link.limbo)
        if self.severed(letter.source.name, letter.target):
            letter.vanish("cut")
        elif chance(self.random, link.request_loss):
            letter.vanish("lost")
        elif letter.answer is None and (kept or self.withheld(letter.source.name, letter.body)):
            self._limbo.append(letter)
            if echoed:
                self._travel(letter.echo(), delay)
        else:
            self._travel(letter, delay)
            if echoed:
                self._travel(letter.echo(), 2 * delay + between(self.random, *link.request_seconds))

    def home(self, endpoint: str) -> str:
        """The host that listens at an endpoint, or did so last."""
        return self._homes.get(endpoint, endpoint)

    def link(self, source: str, target: str) -> Conditions:
        """How the link between two hosts behaves at the moment."""
        return self._shaped.get((source, target), self.conditions)

    def severed(self, source: str, target: str) -> bool:
        """Whether the link is cut."""
        return (source, target) in self._cuts

    def _travel(self, letter: Letter, delay: float) -> None:
        self.world.clock.callLater(delay, self._arrive, letter)

    def _arrive(self, letter: Letter) -> None:
        listener = self._listeners.get(letter.endpoint)
        if self.severed(letter.source.name, letter.target):
            letter.vanish("cut")
        elif listener is None:
            letter.refuse()
        else:
            listener.accept(letter, self)


class Listener:
    """One boot of a server at one endpoint."""

    def __init__(self, endpoint: str, host: Host, doors: Mapping[str, Door]) -> None:
        self._endpoint = endpoint
        self.host = host
        self._doors = doors
        self.closed = False
        self.inside: dict[Letter, None] = {}

    def accept(self, letter: Letter, hub: Hub) -> None:
        """The connection is there; the door is opened in a turn of the host, which may be held."""
        self.inside[letter] = None
        self.host.clock.callLater(0, self._serve, letter, hub)

    def _serve(self, letter: Letter, hub: Hub) -> None:
        if not letter.comes_again():
            del self.inside[letter]
            return
        hub.tally.served[self._endpoint] += 1
        letter.note("served")
        if letter.outlived:
            hub.world.reach("message out of limbo")
        answer = maybeDeferred(self._doors[letter.verb], letter.body)
        answer.addCallbacks(self._answered, self._broke, callbackArgs=(letter,), errbackArgs=(letter, hub))

    def _answered(self, reply: bytes, letter: Letter) -> None:
        if not self.closed:
            del self.inside[letter]
            letter.post_reply(reply)

    def _broke(self, failure: Failure, letter: Letter, hub: Hub) -> None:
        hub.broken.append(failure)
        letter.note("broke", error=failure.type.__name__ if failure.type is not None else "?")
        if not self.closed:
            del self.inside[letter]
            letter.vanish("lost")


class Letter:
    """One request on its way, and the answer that somebody may be waiting for."""

    def __init__(self, hub: Hub, source: Host, endpoint: str, verb: str, body: bytes) -> None:
        assert isinstance(body, bytes), f"{verb} carries {type(body).__name__}, not bytes"
        self._hub = hub
        self.source = source
        self.endpoint = endpoint
        self.target = hub.home(endpoint)
        self.verb = verb
        self.body = body
        self.answer: Deferred[bytes] | None = None
        self.settled: Callable[[], None] = lambda: None
        self.outlived = False
        self._echoed = False
        self._origin: Letter | None = None
        self._told = False
        self._carried_out_again = False

    def echo(self) -> Letter:
        """The same request again, with nobody waiting. From now on nobody can be sure that it did not arrive."""
        self._echoed = True
        again = Letter(self._hub, self.source, self.endpoint, self.verb, self.body)
        again._origin = self if self.answer is not None else None
        return again

    def comes_again(self) -> bool:
        """It is carried out now; False: it must not be, for the caller of the first was told, and builds on that."""
        if self._origin is not None:
            if self._origin._told:
                return False
            self._origin._carried_out_again = True
        return True

    def note(self, fate: str, **facts: object) -> None:
        """What became of it, into the trace."""
        trace = self._hub.world.trace
        trace.note(self.source.name, self.verb, to=self.endpoint, crc=zlib.crc32(self.body), fate=fate, **facts)

    def refuse(self) -> None:
        """Nobody listens: certainly not delivered."""
        self.note("refused")
        self._later(self._link.dead_seconds, self._unsent(f"{self.endpoint} refused the connection"))

    def vanish(self, why: str) -> None:
        """It never arrives, or its answer does not. The caller sees the connection drop, or nothing until its
        timeout; if a link was cut it may also find that it cannot connect."""
        self.note(why)
        sees = self._hub.random.random()
        if why == "cut" and sees < 0.25:
            self._later(self._link.dead_seconds, self._unsent(f"no connection to {self.endpoint}"))
        elif sees < 1 - self._link.silence:
            self._later(self._link.dead_seconds, LostAnswer(f"the connection to {self.endpoint} dropped"))

    def post_reply(self, reply: bytes) -> None:
        """The answer leaves the server."""
        assert isinstance(reply, bytes), f"{self.verb} answered {type(reply).__name__}, not bytes"
        if self.answer is None:
            return
        hub, back = self._hub, self._hub.link(self.target, self.source.name)
        delay = between(hub.random, *back.reply_seconds)
        if chance(hub.random, back.late):
            delay += between(hub.random, *back.late_seconds)
        if hub.severed(self.target, self.source.name):
            self.vanish("reply cut")
        elif chance(hub.random, back.reply_loss):
            self.vanish("reply lost")
        else:
            hub.world.clock.callLater(delay, self._reply_arrived, reply)

    def fail(self, reason: NotSent | LostAnswer) -> None:
        """The caller learns that there will be no answer."""
        self._in_a_turn(lambda answer: answer.errback(reason))

    def _reply_arrived(self, reply: bytes) -> None:
        if self._hub.severed(self.target, self.source.name):
            self.vanish("reply cut")
        elif self._carried_out_again:
            self.vanish("reply lost")
        else:
            self._told = True
            self._hub.tally.bytes += len(reply)
            self._in_a_turn(lambda answer: answer.callback(reply))

    def _unsent(self, text: str) -> NotSent | LostAnswer:
        return LostAnswer(text) if self._echoed else NotSent(text)

    def _later(self, seconds: tuple[float, float], reason: NotSent | LostAnswer) -> None:
        if self.answer is not None:
            self._hub.world.clock.callLater(between(self._hub.random, *seconds), self.fail, reason)

    def _in_a_turn(self, settle: Callable[[Deferred[bytes]], None]) -> None:
        self.source.clock.callLater(0, self._settle, settle)

    def _settle(self, settle: Callable[[Deferred[bytes]], None]) -> None:
        answer, self.answer = self.answer, None
        if answer is not None:
            self.settled()
            settle(answer)

    @property
    def _link(self) -> Conditions:
        return self._hub.link(self.source.name, self.target)


class SimNetwork:
    """INetwork for one host. What a dead one still says, in the turn in which it dies, goes nowhere."""

    def __init__(self, hub: Hub, host: Host) -> None:
        self._hub = hub
        self._host = host
        self._open: dict[Letter, IDelayedCall] = {}
        self._closed = False

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        if not (self._closed or self._host.clock.stopped):
            self._hub.post(Letter(self._hub, self._host, endpoint, verb, body))

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        letter = Letter(self._hub, self._host, endpoint, verb, body)
        answer: Deferred[bytes] = Deferred(lambda _: self._forget(letter))
        letter.answer = answer
        letter.settled = lambda: self._forget(letter)
        overdue = LostAnswer(f"no answer from {endpoint} within {timeout} s")
        self._open[letter] = self._host.clock.callLater(timeout, letter.fail, overdue)
        if self._closed:
            letter.fail(NotSent("this network is closed"))
        elif not self._host.clock.stopped:
            self._hub.post(letter)
        return answer

    def close(self) -> Deferred[None]:
        self._closed = True
        for letter in list(self._open):
            letter.fail(LostAnswer("this network was closed"))
        return succeed(None)

    def _forget(self, letter: Letter) -> None:
        letter.answer = None
        timer = self._open.pop(letter, None)
        if timer is not None and timer.active():
            timer.cancel()


def _never(source: str, body: bytes) -> bool:
    """Nothing is withheld."""
    return False
