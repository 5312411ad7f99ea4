"""Target "port": everything behind the listening port, from Banana to the replicas (fuzz_messages draws the inputs).

Judged after every input: no bug is logged and no server stops; a client is never told "internal error"; what was
refused as a whole has changed no replica. Judged after every few hundred: an honest Clerk is served, connections
that are gone have given all their memory back.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from fuzz_messages import ANY, GREETING, PLAIN, Strangers
from fuzz_servers import CONTROLLER_PORT, GROUP_PORTS, Finding, Fingerprint, Servers
from fuzz_targets import Target, Verdict
from twisted.internet.protocol import Protocol

from twisted_kv.codec import Malformed
from twisted_kv.transport.banana import Budget, Decoder, Violation
from twisted_kv.transport.chunks import RESERVE_BYTES, WHOLE
from twisted_kv.transport.faults import from_wire
from twisted_kv.transport.wire import ANSWERS

EVERYTHING = Budget(1 << 30, 1 << 24, 64)
REFUSALS = frozenset({"Rejected", "Busy", "NotLeading"})
READING = frozenset({"kv_read", "kv_scan", "ctl_query", "ctl_next", "who", "get", "status", "query"})
PEER_EVERY = 4
TERMS_MAX = 1 << 20
DIGEST_EVERY = 8


class Port(Target):
    """The port of four servers; every fourth life has hostile members too."""

    name = "port"
    share = 0.40
    life = 1500

    def __init__(self, seed: int, life: int = 0) -> None:
        self.peers = life % PEER_EVERY == PEER_EVERY - 1
        self.servers = Servers(seed)
        self.connections: dict[tuple[int, int], Stranger] = {}
        self._factories = {port: self.servers.reactor.listeners[port] for port in (CONTROLLER_PORT, *GROUP_PORTS)}
        hellos = [self.servers.members(port)[0]._formation.hello for port in GROUP_PORTS]
        self._incarnations = {str(hello.node): hello.incarnation for hello in hellos}
        self._fed = 0
        self._digests: dict[int, tuple[tuple[int, int], ...]] = {}
        self._strangers: Strangers | None = None

    def draw(self, random: Random) -> list[Any]:
        if self._strangers is None or self._strangers.random is not random:
            self._strangers = Strangers(random, self.peers, tuple(self._incarnations.values()))
        return self._strangers.draw()

    def feed(self, given: list[Any]) -> Verdict:
        port, slot, data, seconds = given
        servers, stranger = self.servers, self._connection(port, slot)
        if stranger is None:
            raise Finding("a newcomer is turned away though there is room")
        before = servers.fingerprints(port)
        stranger.heard.clear()
        calls = stranger.calls
        calls.clear()
        stranger.send(data)
        servers.reactor.settle()
        servers.check()
        if stranger.told_of_a_bug:
            raise Finding("a stranger is told of an internal error, and the log tells nobody")
        verdict = self._verdict(stranger)
        if not self.peers and not self._may_change(stranger):
            after = servers.fingerprints(port)
            if any(map(_differ, before, after)):
                raise Finding(f"refused ({verdict.reason}), and yet {before} became {after}")
        if self._fed % DIGEST_EVERY == 0:
            self._compare_digests(port)
        if slot == 0:
            stranger.close()
        servers.reactor.pass_seconds(seconds)
        servers.check()
        self._fed += 1
        if self._fed % 500 == 0:
            self.finish()
        return verdict

    def finish(self) -> None:
        """Strangers leave; then all is as before, and others are served."""
        for stranger in self.connections.values():
            stranger.close()
        self.connections.clear()
        reactor = self.servers.reactor
        reactor.pass_seconds(11.0)
        self.servers.check()
        for port, factory in self._factories.items():
            if factory.root.reserve.free != RESERVE_BYTES:
                raise Finding(f"{RESERVE_BYTES - factory.root.reserve.free} bytes of parts are kept at {port}")
            if factory.connections > 12:
                raise Finding(f"{factory.connections} connections are kept at {port}")
            for broker in factory._connections:
                if broker.calls > 8:
                    raise Finding(f"{broker.calls} calls hang at {port}")
        if not self.peers and not self.worn:
            self.servers.serves()

    @property
    def worn(self) -> bool:
        """Shards were sent away by a change that was granted, or terms are so high that no member follows."""
        controller = self.servers.members(CONTROLLER_PORT)[0]
        if controller.machine.status()["configurations"] > 1:
            return True
        return any(print_.term > TERMS_MAX for port in GROUP_PORTS for print_ in self.servers.fingerprints(port))

    def close(self) -> None:
        self.servers.close()

    def _compare_digests(self, port: int) -> None:
        """A machine that has applied nothing since has not changed."""
        known, self._digests[port] = self._digests.get(port, ()), self.servers.digests(port)
        for (applied, digest), (index, now) in zip(known, self._digests[port], strict=False):
            if applied == index and digest != now:
                raise Finding(f"a machine at index {index} has changed though it applied nothing")

    def _connection(self, port: int, slot: int) -> Stranger | None:
        stranger = self.connections.get((port, slot))
        if stranger is None or stranger.gone:
            stranger = Stranger(self.servers.reactor, self._factories[port], port)
            if stranger.gone:
                return None
            if slot:
                stranger.send(GREETING)
                self.servers.reactor.settle()
                self.connections[port, slot] = stranger
        return stranger

    def _verdict(self, stranger: Stranger) -> Verdict:
        framed = bool(stranger.calls)
        if stranger.gone:
            return Verdict(framed, "cut")
        reasons = Counter(heard[1] for heard in stranger.heard)
        if not reasons:
            return Verdict(framed, "one way" if framed else "waits for more")
        return Verdict(framed, reasons.most_common(1)[0][0])

    def _may_change(self, stranger: Stranger) -> bool:
        """Whether anything that was asked may have been done."""
        answers = dict(stranger.heard)
        for request, name, answered in stranger.calls:
            told = answers.get(request)
            if name in READING or told in REFUSALS:
                continue
            if told is not None and told.startswith("error") and (name not in PLAIN and name != WHOLE):
                continue
            if told == "error BadRequest" and name in PLAIN:
                # A Clerk looks first; but it may have opened a session before.
                return True
            if answered and told is None and name not in (*PLAIN, WHOLE) and stranger.gone:
                return True
            if name in stranger.names:
                return True
        return False


class Stranger(Protocol):
    """A connection that sends whatever it is told to, and reads the answers."""

    def __init__(self, reactor: Any, factory: Any, port: int) -> None:
        self.heard: list[tuple[Any, str]] = []
        self.calls: list[tuple[Any, str, Any]] = []
        self._decoder = Decoder(EVERYTHING, self._received)
        before = set(factory._connections)
        self._end = reactor.dial(port, self)
        self.names: set[str] = set()
        self.told_of_a_bug = False
        if self._end is None:
            return
        [broker] = set(factory._connections) - before
        root = broker.localObjects[b"root"].object
        self.names = {*root._doors, *root._plain, WHOLE}
        message, calls = broker._acts[b"message"][1], self.calls

        def framed(request: Any, target: Any, name: Any, answered: Any, args: Any, kw: Any) -> None:
            calls.append((request, name.decode("utf-8", "replace") if type(name) is bytes else "", answered))
            try:
                message(request, target, name, answered, args, kw)
            except Violation:
                calls.pop()
                raise

        broker._acts[b"message"] = (6, framed)

    @property
    def gone(self) -> bool:
        return self._end is None or self._end.gone or self._end.other.gone

    def send(self, data: bytes) -> None:
        assert self._end is not None
        self._end.write(data)

    def close(self) -> None:
        if self._end is not None:
            self._end.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        try:
            self._decoder.feed(data)
        except Violation as error:
            raise Finding(f"the server sends what cannot be read: {error}") from None

    def _received(self, expression: Any) -> None:
        if type(expression) is list and len(expression) == 3 and expression[0] == b"answer":
            self.heard.append((expression[1], _named(expression[2])))
        elif type(expression) is list and len(expression) == 3 and expression[0] == b"error":
            error = from_wire(expression[2])
            if "internal error" in str(error):
                self.told_of_a_bug = True
            self.heard.append((expression[1], f"error {type(error).__name__}"))


def _differ(before: Fingerprint, after: Fingerprint) -> bool:
    """Whether more has happened than that a member learned what was committed before."""
    return (before.term, before.vote, before.last) != (after.term, after.vote, after.last)


def _named(answer: Any) -> str:
    if type(answer) is not bytes:
        return "plain answer"
    for codec in (ANSWERS, ANY):
        try:
            value = codec.decode(answer)
        except Malformed:
            continue
        return type(value).__name__ if codec is ANSWERS else "other answer"
    return "bytes"
