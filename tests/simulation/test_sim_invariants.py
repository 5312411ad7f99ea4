"""Each invariant, broken on purpose."""

from types import SimpleNamespace

import pytest

from twisted_kv.consensus.raft.invariants import InvariantViolated
from twisted_kv.consensus.raft.messages import MESSAGES, AppendAck, AskVote, HeartbeatAck, VoteAnswer
from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored, Role, SnapshotInstalled, Standing
from twisted_kv.simulation.judges import invariants
from twisted_kv.simulation.judges.checkers import LOG_MATCHING, ONE_OWNER, Violation
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.judges.invariants import (
    DIGEST_EVERY,
    WRONG_MAX,
    Watch,
    WatchedCore,
    WatchedLog,
    WatchedMachine,
    WatchedNetwork,
    exactly_once,
)
from twisted_kv.transport.wire import PEER_STEP, STEP, Step


class Scripted:
    """A core that gives the Readys it was made with; its log begins at the beginning."""

    log = SimpleNamespace(boundary=Position(0, 0))

    def __init__(self, *readys):
        self._readys = list(readys)
        self.seen = []

    def ready(self):
        return self._readys.pop(0) if self._readys else None

    def __getattr__(self, name):
        return lambda *arguments: self.seen.append((name, *arguments))


def watched(watch, *readys, name="a", gid=1):
    core = WatchedCore(Scripted(*readys), watch, gid, name, 0)
    while (ready := core.ready()) is not None:
        core.advance(ready)
    return core


def leads(term):
    return Ready(standing=Standing(Role.LEADER, term, 1))


def applies(*entries):
    return Ready(committed=tuple(Entry(index, term, (command,)) for index, term, command in entries))


def test_two_leaders_in_one_term():
    """Raft Figure 3, election safety; another group or another term is another matter."""
    watch = Watch()
    elections = []
    watch.elected = lambda: elections.append(1)
    watched(watch, leads(3), leads(3))
    watched(watch, leads(3), name="b", gid=2)
    watched(watch, leads(4), name="b")
    assert (watch.wrong, len(elections)) == ([], 3)
    watched(watch, leads(3), name="b")
    assert "two leaders in term 3" in str(watch.wrong[0])


@pytest.mark.parametrize("other", [(1, 1, b"y"), (1, 2, b"x")])
def test_two_entries_at_one_index(other):
    """Raft Figure 3, state machine safety: by content and by term."""
    watch = Watch()
    watched(watch, applies((1, 1, b"x"), (2, 1, b"z")))
    watched(watch, applies((1, 1, b"x")), name="b")
    assert watch.wrong == []
    watched(watch, applies(other), name="c")
    assert "two entries at 1" in str(watch.wrong[0])


def test_an_entry_left_out_or_applied_twice():
    """Hazard 31, scenario §3.1-4; rows that were installed move the place on."""
    for indices in ((1, 3), (1, 1)):
        watch = Watch()
        watched(watch, applies(*((index, 1, b"x") for index in indices)))
        assert "after 1" in str(watch.wrong[0])
    watch = Watch()
    core = WatchedCore(Scripted(applies((8, 1, b"x"))), watch, 1, "a", 0)
    core.step(SnapshotInstalled(7, 1))
    core.ready()
    assert watch.wrong == []


class Disk:
    """A log store on which everything was lost but what it was made with."""

    def __init__(self, restored=None):
        self._restored = restored or Restored()
        self.fails = False

    def restore(self):
        return self._restored

    def save(self, ready):
        if self.fails:
            raise OSError

    def reset(self, index, term):
        pass

    def trim(self, index, term, rows_max):
        return "trimmed"


def booted(watch, restored=None):
    log = WatchedLog(Disk(restored), watch, "a")
    log.restore()
    return log


@pytest.mark.parametrize(
    ("term", "vote", "last", "wrong"),
    [
        (2, 3, 5, False),
        (3, 0, 6, False),
        (2, 0, 5, True),
        (2, 1, 5, True),
        (1, 3, 5, True),
        (2, 3, 4, True),
    ],
)
def test_a_term_a_vote_or_an_entry_that_was_forgotten(term, vote, last, wrong):
    """Hazards 1 and 2: a later term is no forgetting."""
    watch = Watch()
    booted(watch).save(Ready(hard_state=HardState(2, 3), entries=(Entry(4, 1), Entry(5, 1))))
    booted(watch, Restored(hard_state=HardState(term, vote), entries=(Entry(last, 1),)))
    assert bool(watch.wrong) is wrong
    watch.wrong.clear()
    watch.forgotten("a")
    booted(watch)
    assert watch.wrong == []


@pytest.mark.parametrize(
    ("term", "vote", "wrong"), [(1, 0, True), (2, 0, True), (2, 1, True), (2, 3, False), (3, 0, False), (3, 1, False)]
)
def test_a_save_that_goes_back(term, vote, wrong):
    """Hazard 2: not even a save lowers the term, or takes a vote back within its term (Raft §5.2)."""
    watch = Watch()
    log = booted(watch)
    log.save(Ready(hard_state=HardState(2, 3)))
    log.save(Ready(hard_state=HardState(term, vote)))
    assert bool(watch.wrong) is wrong


def test_what_was_cut_reset_or_not_saved_needs_not_be_remembered():
    watch = Watch()
    log = booted(watch)
    log.save(Ready(entries=(Entry(5, 1),)))
    log.save(Ready(cut=3))
    booted(watch, Restored(boundary=Position(2, 1)))
    log.reset(9, 1)
    booted(watch, Restored(boundary=Position(9, 1)))
    log._log.fails = True
    with pytest.raises(OSError):
        log.save(Ready(hard_state=HardState(7, 1)))
    booted(watch, Restored(boundary=Position(9, 1)))
    assert watch.wrong == []
    assert log.trim(1, 1, 1) == "trimmed"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (AppendAck(1, 2, 4, 7), True),
        (AppendAck(1, 2, 4, 8), False),
        (AppendAck(1, 2, 5, 7), False),
        (AppendAck(1, 2, 3, 8), True),
        (AskVote(1, 2, 4, 7, 4, False), False),
        (AskVote(1, 2, 3, 7, 3, False), True),
        (VoteAnswer(1, 2, 4, True), True),
        (VoteAnswer(1, 3, 4, True), False),
        (VoteAnswer(1, 3, 4, False), True),
        (VoteAnswer(1, 2, 5, True), False),
        (HeartbeatAck(1, 2, 9, 1), True),
    ],
)
def test_a_promise_before_it_is_durable(message, kept):
    """Raft Figure 2; hazards 1 and 16: term 4, a vote for 2 and entries up to 7 are on disk.

    Regression laggards 1188: what was acknowledged in term 3 may have been cut in term 4.
    """
    watch, sent = Watch(), []
    booted(watch).save(Ready(hard_state=HardState(4, 2), entries=(Entry(7, 4),)))
    real = SimpleNamespace(send=lambda *what: sent.append(what), call="call", close="close")
    network = WatchedNetwork(real, watch, "a")
    network.send("sim:b", PEER_STEP, STEP.encode(Step(1, 1, "", 2, MESSAGES.encode((message,)))))
    network.send("sim:b", "another verb", b"")
    assert (watch.wrong == []) is kept
    assert (len(sent), network.call, network.close) == (2, "call", "close")


def test_only_behind_the_save_that_ended_its_term_an_acknowledgment_may_speak_of_what_was_cut():
    """Regression laggards 1188, and no more than that."""
    watch = Watch()
    log = booted(watch)
    log.save(Ready(hard_state=HardState(4, 0), entries=(Entry(5, 4),)))
    log.save(Ready(hard_state=HardState(6, 0), cut=5))
    for term in (4, 5):
        watch.promised("a", AppendAck(1, 2, term, 7))
    assert watch.wrong == []
    watch.promised("a", AppendAck(1, 2, 3, 7))
    assert len(watch.wrong) == 1
    log.save(Ready(entries=(Entry(5, 6),)))
    watch.promised("a", AppendAck(1, 2, 4, 7))
    assert len(watch.wrong) == 2
    booted(watch, Restored(hard_state=HardState(6, 0), entries=(Entry(5, 6),)))
    watch.promised("a", AppendAck(1, 2, 5, 7))
    assert len(watch.wrong) == 3


def test_figure_3_is_looked_at_after_every_step_and_with_every_ready(monkeypatch):
    """Raft Figure 3; the properties themselves are tested beside the core."""
    looks = []

    def observe(self, cores):
        looks.append((self, cores))
        raise InvariantViolated("Log Matching", "parted")

    monkeypatch.setattr(invariants.Invariants, "observe", observe)
    watch = Watch()
    core = watched(watch, leads(3), leads(4))
    watched(watch, leads(3), gid=2)
    assert [violation.text[:7] for violation in watch.wrong] == ["group 1", "group 1", "group 2"]
    assert {violation.checker for violation in watch.wrong} == {LOG_MATCHING}
    assert looks[0] == looks[1] == (looks[0][0], (core._core,))
    assert looks[2][0] is not looks[0][0]
    core.step("m")
    assert len(looks) == 4


@pytest.fixture(autouse=True)
def scripted_cores(monkeypatch):
    """Scripted cores have no log to be looked at."""
    monkeypatch.setattr(invariants.Invariants, "observe", lambda self, cores: None)


def test_the_wrapper_passes_every_verb_on():
    core = WatchedCore(Scripted(), Watch(), 1, "a", 0)
    core.tick()
    core.step("m")
    core.propose(b"c")
    core.read(7)
    core.compact(3)
    core.status()
    assert [verb for verb, *_ in core._core.seen] == ["tick", "step", "propose", "read", "compact", "status"]


class Machine:
    """A machine of which everything can be told."""

    def __init__(self, digest=1, phases=()):
        self._digest = digest
        self.phases = dict(phases)
        self.extra = "own"

    def apply(self, index, command):
        return f"did {command}"

    def digest(self):
        return self._digest

    @property
    def serving(self):
        return frozenset(shard for shard, phase in self.phases.items() if phase in ("serving", "handing"))


def test_two_states_at_one_place():
    """Hazard 20: compared every so many entries, command by command."""
    watch = Watch()
    first = WatchedMachine(Machine(1), watch, 1, "a")
    assert first.apply(DIGEST_EVERY, b"x") == "did b'x'"
    assert first.extra == "own"
    first.apply(DIGEST_EVERY, b"y")
    WatchedMachine(Machine(1), watch, 1, "b").apply(DIGEST_EVERY, b"x")
    WatchedMachine(Machine(2), watch, 2, "b").apply(DIGEST_EVERY, b"x")
    assert watch.wrong == []
    WatchedMachine(Machine(2), watch, 1, "c").apply(DIGEST_EVERY, b"x")
    assert "c and a differ" in str(watch.wrong[0])


def test_one_shard_in_two_groups():
    """Contract §5.4, hazard 43: judged by the latest state of each group, so a lagging replica accuses nobody."""
    watch = Watch()
    giver, taker = Machine(phases={1: "handing", 2: "serving"}), Machine(phases={1: "pulling"})
    lagging = Machine(phases={1: "serving"})
    giving = WatchedMachine(giver, watch, 100, "a")
    taking = WatchedMachine(taker, watch, 101, "b")
    giving.apply(1, b"")
    taking.apply(1, b"")
    giver.phases[1] = "leaving"
    giving.apply(2, b"")
    taker.phases[1] = "serving"
    taking.apply(2, b"")
    WatchedMachine(lagging, watch, 100, "c").apply(1, b"")
    assert watch.wrong == []
    giver.phases[1] = "serving"
    giving.apply(3, b"")
    assert watch.wrong == [Violation(ONE_OWNER, "shards [1] are served by groups 101 and 100")]


def test_a_flood_of_findings_is_cut_off():
    watch = Watch()
    for _ in range(100):
        watch.report("x")
    assert len(watch.wrong) == WRONG_MAX


@pytest.mark.parametrize(
    ("final", "complaint"),
    [
        ("<1><2><3>", ""),
        ("<1><2>", ""),
        ("<3><1><2>", ""),
        ("<1>", "<2> of a was acknowledged and is gone"),
        ("<1><2><2>", "<2> of a stands 2 times"),
        ("<1><2><3><3>", "<3> of a stands 2 times"),
        ("<2><1>", "<2> of a stands before"),
        (None, "<1> of a was acknowledged and is gone"),
    ],
)
def test_tokens_lost_doubled_or_out_of_order(final, complaint):
    """Scenario §2.2-4; <3> is of unknown outcome, so it may stand anywhere or nowhere, but not twice."""
    history = History()
    for token in ("<1>", "<2>", "<3>"):
        call = history.begin("a", "append", "k", token, 0.0)
        if token == "<3>":
            history.unknown(call)
        else:
            history.succeeded(call, None)
    wrong = exactly_once(history, {"k": final})
    assert bool(wrong) == bool(complaint)
    assert complaint in "".join(map(str, wrong))


def test_only_keys_that_were_appended_to_are_counted():
    history = History()
    history.succeeded(history.begin("a", "append", "k", "<1>", 0.0), None)
    history.succeeded(history.begin("a", "put", "k", "<2>", 0.0), None)
    assert exactly_once(history, {"k": "<2>"}) == []
    assert exactly_once(history, {}) == []
