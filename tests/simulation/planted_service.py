"""Faults that break what is promised while faults last, one for each judge: given a monkeypatch, what was found."""

from random import Random

from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock

from twisted_kv.consensus.raft import election
from twisted_kv.consensus.raft.messages import AskVote, HeartbeatAck, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import HardState, Restored
from twisted_kv.errors import BadRequest
from twisted_kv.interfaces import LostAnswer
from twisted_kv.replica.doors import FORWARDED
from twisted_kv.simulation.doors.disk import SimDisk
from twisted_kv.simulation.doors.network import Conditions, Hub
from twisted_kv.simulation.doors.wired import WiredHub
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.judges.checkers import Violation
from twisted_kv.simulation.judges.invariants import Watch, WatchedData, WatchedMachine
from twisted_kv.simulation.judges.majorities import LEADERLESS_SECONDS, Majorities
from twisted_kv.simulation.judges.service import Forwards, SavingDisk, ServingCore, ended
from twisted_kv.simulation.lives.strangers import Stranger
from twisted_kv.transport import broker
from twisted_kv.transport.chunks import Uploads
from twisted_kv.transport.faults import from_wire
from twisted_kv.transport.wire import ANSWERS, CTL_CHANGE, NotLeading, Unsettled

TICK = 0.05


class Corridor:
    """A replica, as far as its calls can be seen."""

    def __init__(self, leads=True, commands=0, reads=0, stopped=False):
        self.leads = leads
        self._commands = [None] * commands
        self._reads = [None] * reads
        self._stopped = stopped


class Serving:
    """A core of a group of three, watched, on a clock of its own.

    Attributes:
        found: what was found, as violations.
    """

    def __init__(self, corridor=None):
        self.clock = Clock()
        self.found = []
        self.node = RaftNode(1, frozenset((1, 2, 3)), Restored(HardState(1, 0)), Random(1))
        self.corridor = corridor or Corridor()
        self.core = ServingCore(self.node, self.node, self.clock, lambda: self.corridor, self.tell, "g1-1")

    def tell(self, checker, text):
        self.found.append(Violation(checker, text))

    def lead(self):
        """It is elected, by those who are there."""
        self.node.step(AskVote(2, 1, 1, 0, 0, False))
        self.drain()
        election.campaign(self.node._state, transfer=True)
        self.drain()
        self.core.step(VoteAnswer(2, 1, self.node._state.term, True))
        self.drain()
        assert self.node.status().role.value == "leader"
        return self

    def drain(self, finish=True):
        """Carry out what is to be done; unless ``finish``, its last save does not end."""
        while (ready := self.core.ready()) is not None:
            if ready.must_save and not finish:
                return ready
            self.core.advance(ready)
        return None

    def tick(self, count=1, answers=False):
        for _ in range(count):
            if answers:
                self.core.step(HeartbeatAck(2, 1, self.node._state.term, 0))
            self.clock.advance(TICK)
            self.core.tick()
        return self


def never_step_down(monkeypatch):
    """Hazard 7."""
    monkeypatch.setattr(election, "is_quorum", lambda nodes, voters: True)
    serving = Serving().lead()
    return serving.tick(40).found


def lead_with_a_hung_disk(monkeypatch):
    """Hazard 7."""
    serving = Serving().lead()
    serving.node.propose(b"x")
    assert serving.drain(finish=False) is not None
    return serving.tick(40, answers=True).found


def let_calls_wait(monkeypatch):
    found = []
    ended(Corridor(reads=1, stopped=True), lambda *what: found.append(Violation(*what)), "g1-1")
    return found


def enter_a_term_alone(monkeypatch):
    """Hazard 8."""
    monkeypatch.setattr(election, "ask_pre_votes", lambda state: election.campaign(state, transfer=False))
    return Serving().tick(40).found


def save_again(monkeypatch):
    """Hazard 27."""
    found = []
    disk = SavingDisk(FailingDisk(OSError("no")), lambda *what: found.append(Violation(*what)), "g1-1")
    for _ in range(2):
        disk.run(save).addErrback(lambda failure: None)
    return found


class FailingDisk:
    def __init__(self, error):
        self.error = error

    def run(self, work):
        return fail(self.error)

    def close(self):
        return succeed(None)


def save():
    """A piece of work of this name."""


def apply_before_the_save(monkeypatch):
    """Hazard 16."""
    watch = Watch()
    watch.restored("g1-1", Restored(HardState(1, 0)))
    machine = WatchedMachine(Blank(), watch, 1, "g1-1")
    machine.apply(1, b"x")
    return watch.wrong


class Blank:
    """A machine without a state."""

    serving = frozenset()

    def apply(self, index, command):
        return None

    def digest(self):
        return 0


def commit_rows_of_a_later_term(monkeypatch):
    """Hazard 15."""
    watch = Watch()
    watch.restored("g1-1", Restored(HardState(3, 0)))
    checkpoint = WatchedData(Rows(), watch, "g1-1").checkpoint(fresh=True)
    checkpoint.commit(7, 3)
    assert not watch.wrong
    checkpoint.commit(9, 4)
    return watch.wrong


class Rows:
    """A data store that keeps nothing."""

    def position(self):
        return 0, 0

    rows = snapshot = close = position

    def checkpoint(self, fresh=False):
        return self

    write = drop = abort = position

    def commit(self, index, term):
        pass


class Deaf:
    """A network on which nobody answers."""

    def __init__(self, error):
        self.error = error
        self.send = self.close = None

    def call(self, endpoint, verb, body, timeout):
        return fail(self.error)


def forwarded(error, answer):
    """What is found when a change is passed on, that becomes of it, and this is answered."""
    found, lost = [], []
    forwards = Forwards(Deaf(error), lambda *what: found.append(Violation(*what)), lambda: lost.append(1), "ctl-1")

    def change(body):
        asked = forwards.call("ctl-2", FORWARDED + CTL_CHANGE, body, 1.0)
        return asked.addErrback(lambda failure: ANSWERS.encode(answer))

    told = []
    forwards.watched({CTL_CHANGE: change})[CTL_CHANGE](b"x").addCallback(told.append)
    assert told == [ANSWERS.encode(answer)]
    return found, lost


def refuse_what_was_lost(monkeypatch):
    """Hazard 40."""
    assert not forwarded(LostAnswer("late"), Unsettled(1, 2))[0]
    return forwarded(LostAnswer("late"), NotLeading(1, 2))[0]


def take_strange_words_for_a_refusal(monkeypatch):
    """Hazard 40."""
    monkeypatch.setattr(broker, "from_wire", lambda jelly: BadRequest(from_wire(jelly).text))
    return asked_strangely()


def asked_strangely():
    """What is found when every door fails in words that are not ours."""
    world = World(1)
    hub = WiredHub(world, Conditions(strange=1.0))
    hub.listen("tcp:s:7001", world.host("s"), {"echo": succeed})
    told = []
    hub.at(world.host("c")).call("tcp:s:7001", "echo", b"x", 5.0).addBoth(told.append)
    assert world.run_until(lambda: bool(told), 10.0)
    assert world.reached["strange error"] == 1
    return [Violation(checkers.MISREAD, line) for line in hub.misread]


def take_parts_as_they_come(monkeypatch):
    """Scenario 50."""

    def part(self, upload, index, count, piece):
        unfinished = self._unfinished.setdefault(upload, Parts(count))
        unfinished.pieces.append(piece)

    monkeypatch.setattr(Uploads, "part", part)
    monkeypatch.setattr(Uploads, "release", lambda self, body: None)
    return Visited().found


class Parts:
    def __init__(self, count):
        self.count = count
        self.pieces = []
        self.size = 0
        self.touched_at = 1e9


class Visited:
    """A stranger has been at a server for half a minute."""

    def __init__(self, seed=1):
        self.world = World(seed)
        self.hub = WiredHub(self.world)
        self.hub.listen("tcp:s:7001", self.world.host("s"), {"who": succeed})
        reactor = self.hub.streams.reactor(self.world.host("stranger"))
        random = self.world.random_for("stranger")
        self.stranger = Stranger(reactor, random, lambda: ["tcp:s:7001"])
        self.stranger.start()
        self.world.run_for(30.0)
        self.stranger.stop()
        self.found = [Violation(checkers.STRANGERS, line) for line in self.stranger.wrong]


class Leaderless:
    """A cluster of one group of three that nobody leads."""

    def __init__(self):
        world = World(1)
        self.hub = Hub(world)
        self.groups = {100: ["a", "b", "c"]}
        self.alive = ["a", "b", "c"]
        self.leading = set()
        self.stopping = set()
        self._disks = {name: [SimDisk(world.host(name), Random(1))] * 2 for name in self.alive}

    def held(self, name):
        return False

    def replica(self, name):
        return Corridor(leads=name in self.leading, stopped=name in self.stopping)

    def disks(self, name):
        return self._disks[name]


def lead_nobody(monkeypatch):
    return looked_at(Leaderless())


def looked_at(cluster, wiped=()):
    """What is found in a cluster that stays as it is."""
    found = []
    majorities = Majorities(cluster, set(wiped), lambda *what: found.append(Violation(*what)))
    for second in range(int(LEADERLESS_SECONDS) + 2):
        majorities.look(float(second))
    return found


PLANTED = {
    checkers.LEADS_ALONE: never_step_down,
    checkers.LEADS_ON: lead_with_a_hung_disk,
    checkers.WAITS: let_calls_wait,
    checkers.KEEPS_TERM: enter_a_term_alone,
    checkers.LED: lead_nobody,
    checkers.SAVED_ONCE: save_again,
    checkers.SAVED_TO_APPLY: apply_before_the_save,
    checkers.FILES_FIT: commit_rows_of_a_later_term,
    checkers.FORWARDED_UNKNOWN: refuse_what_was_lost,
    checkers.MISREAD: take_strange_words_for_a_refusal,
    checkers.STRANGERS: take_parts_as_they_come,
}
