"""Stand-ins for what surrounds the corridor: a scripted core, a disk that is told when, a network that is seen."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_kv.consensus.types import NotLeader, Ready, Role, Standing, Status, Ticket
from twisted_kv.interfaces import NotSent

LEADING = Ready(standing=Standing(Role.LEADER, 1, 1))


class ScriptedCore:
    """Gives out the Readys it was handed, in order; records what it was told."""

    def __init__(self):
        self.readys = deque()
        self.stepped = []
        self.advanced = []
        self.ticks = 0
        self.leading = True
        self.proposed = []
        self.reads = []
        self.compacted = []

    def tick(self):
        self.ticks += 1

    def step(self, message):
        self.stepped.append(message)

    def propose(self, command):
        if not self.leading:
            raise NotLeader(3)
        self.proposed.append(command)
        return Ticket(1, 1 + len(self.advanced_entries()), len(self.proposed) - 1)

    def advanced_entries(self):
        return [entry for ready in self.advanced for entry in ready.committed]

    def read(self, token):
        if not self.leading:
            raise NotLeader(3)
        self.reads.append(token)

    def ready(self):
        return self.readys.popleft() if self.readys else None

    def advance(self, ready):
        self.advanced.append(ready)

    def compact(self, index):
        self.compacted.append(index)

    def status(self):
        return Status(1, Role.LEADER, 1, 1, 0, 0, 0, 1, True)


class EchoMachine:
    """Applies a command by remembering it, and answers with it."""

    def __init__(self):
        self.applied = []

    def apply(self, index, command):
        if command == b"break":
            raise RuntimeError("planted")
        self.applied.append((index, command))
        return b"did " + command

    def tidy(self):
        pass

    def query(self, query):
        return (query, len(self.applied))

    def chores(self):
        return ()


class ToldDisk:
    """Runs nothing until told; then in order."""

    def __init__(self):
        self.waiting = deque()

    def run(self, work):
        done = Deferred()
        self.waiting.append((work, done))
        return done

    def finish(self, error=None):
        work, done = self.waiting.popleft()
        if error is not None:
            done.errback(error)
            return
        try:
            result = work()
        except Exception:
            done.errback()
        else:
            done.callback(result)


class InlineDisk:
    def run(self, work):
        try:
            return succeed(work())
        except Exception:
            return fail()


class SeenNetwork:
    """Remembers what was sent; calls go to ``doors`` by endpoint, or nowhere."""

    def __init__(self):
        self.sent = []
        self.doors = {}

    def send(self, endpoint, verb, body):
        self.sent.append((endpoint, verb, body))

    def call(self, endpoint, verb, body, timeout):
        doors = self.doors.get(endpoint)
        return fail(NotSent("nobody listens")) if doors is None else doors[verb](body)


class SeenMail:
    def __init__(self, events):
        self.events = events

    def post(self, messages):
        self.events.extend(("sent", message) for message in messages)

    def opened(self, body):
        return (body,)


class SeenLog:
    """A log store that records the order of things."""

    def __init__(self, events):
        self.events = events

    def save(self, ready):
        self.events.append(("saved", tuple(entry.index for entry in ready.entries)))


class SeenWitness:
    def __init__(self, events):
        self.events = events
        self.failure = None

    def applied(self, entries):
        self.events.append(("applied", tuple(entry.index for entry in entries)))

    def stood(self, standing):
        self.events.append(("stood", standing.role))

    def fetch_asked(self, source):
        self.events.append(("fetch", source.peer))

    def make_room(self):
        self.events.append(("room", None))
        return succeed(None)

    def failed(self, failure):
        self.failure = failure


def turn(clock: Clock) -> None:
    """One turn of the reactor."""
    clock.advance(0)


def one_turn(clock):
    """What was due when it began: Clock.advance also runs what is asked for meanwhile."""
    for call in [call for call in clock.getDelayedCalls() if call.getTime() <= clock.seconds()]:
        clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)
