"""The corridor keeps one order: send early, save, send, apply, answer, advance."""

import sqlite3

import pytest
from replica_stage import LEADING, EchoMachine, ScriptedCore, SeenLog, SeenMail, SeenWitness, ToldDisk, one_turn, turn
from twisted.internet.task import Clock

from twisted_kv.consensus.types import (
    DiskFull,
    Entry,
    HardState,
    NotLeader,
    ReadIndex,
    Ready,
    Role,
    SaveResumed,
    SaveStalled,
    SnapshotSource,
    Standing,
)
from twisted_kv.constants import APPLY_BYTES_MAX
from twisted_kv.interfaces import SaveRefused
from twisted_kv.replica.pending import LeadershipLost, Overwritten, ReadAbandoned
from twisted_kv.replica.replica import STALL_SECONDS, Replica


class Stage:
    def __init__(self):
        self.events = []
        self.clock = Clock()
        self.core = ScriptedCore()
        self.disk = ToldDisk()
        self.machine = EchoMachine()
        self.witness = SeenWitness(self.events)
        self.replica = Replica(
            self.core,
            self.machine,
            SeenLog(self.events),
            self.disk,
            SeenMail(self.events),
            self.clock,
            0,
            self.witness,
        )

    def lead(self):
        self.core.readys.append(LEADING)
        self.replica.wake()
        turn(self.clock)
        self.events.clear()

    def failure_of(self, waiting):
        seen = []
        waiting.addErrback(seen.append)
        return seen[0]


@pytest.fixture
def stage():
    return Stage()


def test_one_order(stage):
    """Scenario §3.1-2: nothing that depends on a save leaves, is applied or answered before it is durable."""
    entry = Entry(1, 1, (b"c",))
    stage.core.readys.append(Ready(entries=(entry,), early=("append",), messages=("ack",), committed=(entry,)))
    stage.replica.wake()
    turn(stage.clock)
    assert stage.events == [("sent", "append")]
    assert stage.core.advanced == []
    stage.disk.finish()
    assert stage.events == [("sent", "append"), ("saved", (1,)), ("sent", "ack"), ("applied", (1,))]
    assert len(stage.core.advanced) == 1


def test_one_ready_at_a_time(stage):
    """While a save is in flight no further Ready is taken; afterwards it is."""
    stage.core.readys.extend([Ready(hard_state=HardState(1, 1)), Ready(early=("later",))])
    stage.replica.wake()
    turn(stage.clock)
    stage.replica.wake()
    turn(stage.clock)
    assert stage.events == []
    stage.disk.finish()
    turn(stage.clock)
    assert ("sent", "later") in stage.events


def test_many_arrivals_one_pump(stage):
    """Everything of a turn is stepped first; the pump runs once."""
    stage.lead()
    stage.replica.submit(b"a")
    stage.replica.submit(b"b")
    stage.replica.receive("m")
    assert len([call for call in stage.clock.getDelayedCalls() if call.getTime() == 0]) == 1


def test_answers_after_apply(stage):
    stage.lead()
    answers = [stage.replica.submit(b"a"), stage.replica.submit(b"b")]
    stage.core.readys.append(Ready(committed=(Entry(1, 1, (b"a", b"b")),)))
    turn(stage.clock)
    assert [answer.result for answer in answers] == [b"did a", b"did b"]


def test_hazard_15_lost_leadership_releases_everybody(stage):
    """Hazards 15, 22; scenario §3.2-18: who waits is told that the outcome is not known here."""
    stage.lead()
    written, read = stage.replica.submit(b"a"), stage.replica.read("q")
    stage.core.readys.append(Ready(standing=Standing(Role.FOLLOWER, 2, 3)))
    turn(stage.clock)
    assert stage.failure_of(written).check(LeadershipLost)
    assert stage.failure_of(read).check(ReadAbandoned)
    assert not stage.replica.leads


def test_overwritten_command_is_told_apart(stage):
    """An entry of another term in the command's place answers nobody with the wrong reply."""
    stage.lead()
    waiting = stage.replica.submit(b"a")
    stage.core.readys.append(Ready(committed=(Entry(1, 9, (b"other",)),)))
    turn(stage.clock)
    assert stage.failure_of(waiting).check(Overwritten)


def test_hazard_21_read_waits_for_its_index(stage):
    stage.lead()
    answer = stage.replica.read("q")
    stage.core.readys.append(Ready(reads=(ReadIndex(1, 1),)))
    turn(stage.clock)
    assert not answer.called
    stage.core.readys.append(Ready(committed=(Entry(1, 1, (b"a",)),)))
    stage.replica.wake()
    turn(stage.clock)
    assert answer.result == ("q", 1)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), OSError(5, "EIO")])
def test_hazard_27_failed_save_stops_without_a_word(stage, error, logged_errors):
    """An error of a save means unknown: nothing is sent, applied or answered any more."""
    stage.lead()
    waiting = stage.replica.submit(b"a")
    stage.core.readys.append(Ready(entries=(Entry(1, 1, (b"a",)),), messages=("ack",), committed=()))
    turn(stage.clock)
    stage.disk.finish(error)
    assert stage.witness.failure.value is error
    logged_errors.clear()
    assert ("sent", "ack") not in stage.events
    assert stage.failure_of(waiting).check(LeadershipLost)
    with pytest.raises(NotLeader):
        stage.replica.submit(b"b")
    stage.clock.advance(10)
    assert stage.core.ticks == 0


def test_hazard_28_full_disk_keeps_still_and_recovers(stage):
    """With a full disk the replica leads no longer; once there is room it goes on with the same Ready."""
    stage.lead()
    stage.replica.start()
    stage.core.readys.append(Ready(entries=(Entry(1, 1, (b"a",)),), messages=("ack",)))
    stage.replica.wake()
    turn(stage.clock)
    stage.disk.finish(SaveRefused())
    assert DiskFull() in stage.core.stepped
    assert not stage.replica.leads
    stage.clock.advance(1)
    stage.disk.finish()
    assert SaveResumed() in stage.core.stepped
    assert ("sent", "ack") in stage.events


def test_hazard_07_hung_disk_steps_down(stage):
    """A save older than an election timeout: the leader that cannot write leads no longer."""
    stage.lead()
    stage.replica.start()
    waiting = stage.replica.submit(b"a")
    stage.core.readys.append(Ready(entries=(Entry(1, 1, (b"a",)),)))
    turn(stage.clock)
    stage.clock.pump([0.05] * int(STALL_SECONDS / 0.05 + 3))
    assert SaveStalled() in stage.core.stepped
    assert stage.failure_of(waiting).check(LeadershipLost)
    stage.disk.finish()
    assert SaveResumed() in stage.core.stepped


@pytest.mark.parametrize("end", ["stop", "hang"])
def test_hazard_07_and_15_a_confirmed_read_does_not_wait_at_who_applies_no_more(stage, end):
    """It was confirmed at an index that this replica, stopped or with a hung disk, does not reach."""
    stage.lead()
    stage.replica.start()
    waiting = stage.replica.read("q")
    stage.core.readys.append(Ready(reads=(ReadIndex(stage.core.reads[-1], 9),)))
    stage.core.readys.append(Ready(entries=(Entry(1, 1, (b"a",)),)))
    turn(stage.clock)
    assert not waiting.called
    if end == "stop":
        stage.replica.stop()
    else:
        stage.clock.pump([0.05] * int(STALL_SECONDS / 0.05 + 3))
    assert stage.failure_of(waiting).check(ReadAbandoned)


def test_exception_in_apply_stops_with_nothing_answered(stage, logged_errors):
    """An unexpected exception keeps nothing of the entry (house.md)."""
    stage.lead()
    answers = [stage.replica.submit(b"a"), stage.replica.submit(b"break")]
    stage.core.readys.append(Ready(committed=(Entry(1, 1, (b"a", b"break")),), early=()))
    turn(stage.clock)
    assert str(stage.witness.failure.value) == "planted"
    logged_errors.clear()
    assert all(stage.failure_of(answer).check(LeadershipLost) for answer in answers)
    assert stage.core.advanced == [LEADING]


def test_not_leader_tells_who(stage):
    stage.core.leading = False
    with pytest.raises(NotLeader) as caught:
        stage.replica.submit(b"a")
    assert caught.value.leader == 3


def test_hold_waits_for_the_outstanding_ready(stage):
    """The state is replaced only between two Readys."""
    stage.core.readys.append(Ready(hard_state=HardState(1, 1)))
    stage.replica.wake()
    turn(stage.clock)
    idle = stage.replica.hold()
    assert not idle.called
    stage.disk.finish()
    assert idle.called
    stage.core.readys.append(Ready(early=("later",)))
    stage.replica.wake()
    turn(stage.clock)
    assert ("sent", "later") not in stage.events
    stage.replica.release(7)
    turn(stage.clock)
    assert ("sent", "later") in stage.events
    assert stage.replica.applied == 7


def test_fetch_is_passed_on(stage):
    stage.core.readys.append(Ready(fetch=SnapshotSource(2, 5, 1)))
    stage.replica.wake()
    turn(stage.clock)
    assert ("fetch", 2) in stage.events


def test_a_turn_applies_about_so_much_and_no_more(stage):
    """However much was committed at once, after a start or behind a slow disk: others are heard in between."""
    large = APPLY_BYTES_MAX - 1
    for index, size in enumerate((1, large, large, 1), 1):
        stage.core.readys.append(Ready(committed=(Entry(index, 1, (b"c" * size,)),)))
    stage.replica.wake()
    applied = []
    for _ in range(3):
        one_turn(stage.clock)
        applied.append(stage.replica.applied)
    assert applied == [2, 3, 4]
