"""Rare events of one core are seen when they happen, and not before."""

import pytest

from twisted_kv.consensus.raft.messages import Append, AppendAck, AskPreVote, AskVote, PreVoteAnswer, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import DiskFull, Entry, Restored, SaveStalled, SnapshotFailed
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.moments import SeenCore
from twisted_kv.simulation.judges.sights import Sights


class Stage:
    """Node 1 of three, whose every Ready is carried out at once."""

    def __init__(self):
        self.world = World(1)
        self.core = RaftNode(1, frozenset({1, 2, 3}), Restored(), self.world.random_for("core"))
        self.seen = SeenCore(self.core, self.core, Sights(self.world), 0, "one")

    def settle(self):
        while (ready := self.seen.ready()) is not None:
            self.seen.advance(ready)

    def hear(self, *messages):
        for message in messages:
            self.seen.step(message)
            self.settle()

    def tick(self, times=1):
        for _ in range(times):
            self.seen.tick()
            self.settle()

    def lead(self):
        """Win the next term, and commit nothing yet."""
        term = self.core.status().term + 1
        self.tick(20)
        self.hear(PreVoteAnswer(2, 1, term - 1, term, True))
        self.hear(VoteAnswer(2, 1, term, True))
        assert self.core.status().leader == 1
        return term

    @property
    def reached(self):
        return self.world.reached


@pytest.fixture
def stage():
    return Stage()


def test_a_quiet_leadership_is_no_rare_event(stage):
    term = stage.lead()
    stage.hear(AppendAck(2, 1, term, 1))
    stage.seen.propose(b"command")
    stage.settle()
    stage.hear(AppendAck(2, 1, term, 2))
    stage.seen.read(1)
    stage.settle()
    assert stage.reached == {}


def test_a_shorter_log_is_refused(stage):
    """§5.4.1."""
    stage.hear(Append(2, 1, 1, 0, 0, 0, (Entry(1, 1),)))
    stage.tick(9)
    stage.hear(AskVote(3, 1, 2, 1, 1, True))
    assert stage.reached == {}
    stage.hear(AskVote(3, 1, 3, 0, 0, True))
    assert stage.reached == {"vote refused to a shorter log": 1}
    stage.tick(9)
    stage.hear(AskPreVote(3, 1, 4, 0, 0))
    assert stage.reached["pre-vote refused"] == 1


@pytest.mark.parametrize(
    ("event", "name"), [(SaveStalled(), "leader with a hung disk"), (DiskFull(), "leader with a full disk")]
)
def test_a_leader_whose_disk_fails_it(stage, event, name):
    stage.hear(event)
    assert stage.reached == {}
    stage = Stage()
    stage.lead()
    stage.hear(event)
    assert stage.reached == {name: 1}


def test_a_leader_that_nobody_answers(stage):
    stage.lead()
    stage.tick(20)
    assert stage.reached["leader without a quorum"] == 1


def test_a_command_that_was_given_up_can_be_committed_or_overwritten(stage):
    """Hazard 40: why a lost leadership is no refusal."""
    term = stage.lead()
    stage.seen.propose(b"first")
    stage.settle()
    mine = stage.core.log.entry_at(2)
    stage.hear(Append(2, 1, term + 1, 2, mine.term, 2, ()))
    assert stage.reached["abandoned command committed"] == 1
    assert "command overwritten" not in stage.reached

    other = Stage()
    term = other.lead()
    other.seen.propose(b"first")
    other.settle()
    other.hear(Append(2, 1, term + 1, 0, 0, 2, (Entry(1, term + 1), Entry(2, term + 1))))
    assert other.reached["command overwritten"] == 1
    assert other.reached["log cut on conflict"] == 1
    assert "abandoned command committed" not in other.reached


def test_an_entry_of_an_older_term_waits_on_a_majority(stage):
    """§5.4.2, Figure 8; hazard 10."""
    stage.hear(Append(2, 1, 1, 0, 0, 0, (Entry(1, 1),)))
    stage.tick(9)
    term = stage.lead()
    stage.hear(AppendAck(2, 1, term, 1))
    assert stage.reached.get("majority without commitment") == 1
    assert "entry of an older term committed" not in stage.reached
    stage.hear(AppendAck(2, 1, term, 2))
    assert stage.reached["entry of an older term committed"] == 1


def test_answers_to_an_earlier_leadership_and_votes_of_an_earlier_term(stage):
    """Hazards 5 and 14."""
    first = stage.lead()
    stage.tick(20)
    second = stage.lead()
    assert second > first
    before = dict(stage.reached)
    stage.hear(AppendAck(2, 1, second, 1), VoteAnswer(3, 1, second, True))
    assert stage.reached.get("answer to an earlier leadership") == before.get("answer to an earlier leadership")
    stage.hear(AppendAck(2, 1, first, 1))
    assert stage.reached["answer to an earlier leadership"] == 1
    stage.hear(VoteAnswer(3, 1, first, True))
    assert stage.reached["vote of an earlier term"] == 1


def test_reads_before_the_first_commit_and_at_the_end_of_a_leadership(stage):
    """Hazards 21 and 22."""
    stage.lead()
    stage.seen.read(1)
    assert stage.reached == {"read before the first commit": 1}
    stage.tick(20)
    assert stage.reached["read abandoned"] == 1


def test_rows_that_did_not_arrive(stage):
    stage.hear(SnapshotFailed())
    assert stage.reached == {"snapshot failed": 1}
