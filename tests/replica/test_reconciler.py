"""Chores are derived from state, run once at a time, tried again, and cancelled when no longer wanted."""

from random import Random

import msgspec
import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher

from twisted_kv.consensus.types import Role, Standing
from twisted_kv.errors import Unavailable
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    QUERIES,
    AskDrop,
    Claim,
    ConfigurationAnswer,
    Configure,
    Done,
    Drop,
    Dropped,
    Found,
    FoundCluster,
    Freeze,
    HandOver,
    Install,
    NextConfiguration,
    Pull,
    PullAnswer,
)
from twisted_kv.machines.configuration import Configuration, Holder, Member
from twisted_kv.machines.rows import Cursor
from twisted_kv.replica.reconciler import HAND_OVER_SECONDS, ControllerChores, GroupChores, Reconciler
from twisted_kv.transport.wire import CTL_CLAIM, CTL_NEXT, CTL_QUERY, SHARD_DROP, SHARD_PULL


@pytest.fixture
def logged_lines():
    """Formats of the errors that are logged."""
    lines = []

    def heard(event):
        if event["log_level"] is LogLevel.error:
            lines.append(event["log_format"])

    globalLogPublisher.addObserver(heard)
    yield lines
    globalLogPublisher.removeObserver(heard)


class Led:
    """A replica that leads, and records what is submitted."""

    leads = True
    standing = Standing(Role.LEADER, 1, 1)

    def __init__(self):
        self.submitted = []
        self.all_applied = succeed(())

    def read(self, query):
        return self.all_applied

    def submit(self, command):
        self.submitted.append(command)
        return succeed(Done(True))


class Asked:
    """Answers by verb; remembers the questions."""

    def __init__(self, **answers):
        self.answers = answers
        self.questions = []

    def __call__(self, endpoints, verb, body, timeout):
        self.questions.append((tuple(endpoints), verb, body))
        answer = self.answers[verb]
        if callable(answer):
            answer = answer(tuple(endpoints), body)
        if isinstance(answer, Exception):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(answer)


class Scene:
    def __init__(self, chores, **answers):
        self.clock = Clock()
        self.replica = Led()
        self.ask = Asked(**answers)
        self.cluster = ""
        self.strangers = []
        self.asked_at = {}
        group = GroupChores(
            7, "me", self.replica, ["c"], self.ask, self.clock, self, self.asked_at, self.strangers.append
        )
        self.wanted = list(chores)
        self.reconciler = Reconciler(self.replica, lambda: self.wanted, group.work, self.clock)

    def logged(self):
        return [GROUP_COMMANDS.decode(command) for command in self.replica.submitted]


def configuration(num=1, gid=7):
    return Configuration(num=num, members=(Member(gid, num, ("e",)),))


def test_next_configuration_is_claimed_and_logged():
    """Decision 0002: a membership is claimed before it is used."""
    answer = ConfigurationAnswer("C", configuration(), "")
    scene = Scene([NextConfiguration(1)], **{CTL_NEXT: answer, CTL_CLAIM: Done("me")})
    scene.reconciler.poke()
    assert scene.logged() == [Configure("C", configuration(), True)]
    assert CONTROLLER_COMMANDS.decode(scene.ask.questions[1][2]) == Claim(7, 1, "me")


@pytest.mark.parametrize("claimed_by", ["other", ""])
def test_scenario_34_another_group_of_this_gid_is_not_us(claimed_by):
    """Scenario §3.3-34: whoever claimed first is the member; we own nothing."""
    answer = ConfigurationAnswer("C", configuration(), claimed_by)
    scene = Scene([NextConfiguration(1)], **{CTL_NEXT: answer, CTL_CLAIM: Done("other")})
    scene.reconciler.poke()
    assert scene.logged() == [Configure("C", configuration(), False)]


def test_scenario_21_never_skips_a_number():
    """Scenario §3.3-21: the newest is of no use when it is not the next."""
    scene = Scene([NextConfiguration(2)], **{CTL_NEXT: ConfigurationAnswer("C", configuration(1), "me")})
    scene.reconciler.poke()
    assert scene.logged() == []


def test_hazard_46_another_cluster_stops_the_server():
    scene = Scene([NextConfiguration(1)], **{CTL_NEXT: ConfigurationAnswer("D", configuration(), "me")})
    scene.cluster = "C"
    scene.reconciler.poke()
    assert scene.logged() == []
    assert "cluster C" in str(scene.strangers[0])


PULL = Pull(3, 5, Holder(9, 1, 4), ("g",), 2, Cursor(("key", "k"), False, 0), False, False)
HURRIED = msgspec.structs.replace(PULL, hurried=True)
LAST = PullAnswer("rows", (), Cursor(("key", "k"), True, 0), True, True, 10)
INSTALL = Install(3, 5, 2, (), LAST.cursor, True, True, 10)


def test_pull_logs_the_chunk():
    scene = Scene([PULL], **{SHARD_PULL: LAST})
    scene.reconciler.poke()
    assert scene.logged() == [INSTALL]


@pytest.mark.parametrize("state", ["wait", "gone"])
def test_pull_waits_and_asks_again(state):
    scene = Scene([PULL], **{SHARD_PULL: PullAnswer(state)})
    scene.reconciler.start()
    scene.clock.pump([0.05] * 20)
    assert scene.logged() == []
    assert 3 <= len(scene.ask.questions) <= 12


def test_what_is_gone_is_told_only_when_all_that_was_logged_is_applied(logged_lines):
    """A new leader pulls what it took over long ago until its log tells it so (found by chaos)."""
    scene = Scene([PULL], **{SHARD_PULL: PullAnswer("gone")})
    scene.replica.all_applied = Deferred()
    scene.reconciler.poke()
    scene.wanted.clear()
    scene.reconciler.poke()
    assert logged_lines == []
    scene.wanted.append(PULL)
    scene.replica.all_applied = succeed(())
    scene.clock.advance(1.0)
    scene.reconciler.poke()
    assert logged_lines == ["Shard {shard} is gone from group {gid}"]


def joined_again(claimed_then, claimed_now, member, former=()):
    """A controller to whom group 9 is another member by now, and a group 9 that listens only at "moved"."""

    def told(_, body):
        then = QUERIES.decode(body).num == 1
        members = (Member(9, 1, ("g",)),) if then else (member,)
        return ConfigurationAnswer(
            "C",
            Configuration(1 if then else 8, members=members, former=former),
            claimed_then if then else claimed_now,
        )

    def at_its_new_place(answer):
        return lambda endpoints, _: answer if endpoints == ("moved",) else Unavailable("nobody is there")

    return {
        CTL_QUERY: told,
        SHARD_PULL: at_its_new_place(LAST),
        SHARD_DROP: at_its_new_place(Done(True)),
    }


@pytest.mark.parametrize("former", [(), (Member(9, 1, ("g",)),)], ids=["forgotten", "listed"])
@pytest.mark.parametrize("claimed_now", ["nine", ""])
def test_a_giver_that_moved_house_and_joined_again_is_found(claimed_now, former):
    """Scenario §3.3-34: its old place is known of a member that nobody lists any more, or that nobody readdresses any
    more; the gid leads to the new one."""
    for chore, logged in ((PULL, INSTALL), (AskDrop(3, 4, Holder(9, 1, 4), ("g",)), Dropped(3, 4))):
        scene = Scene([chore], **joined_again("nine", claimed_now, Member(9, 8, ("moved",)), former))
        scene.reconciler.poke()
        assert scene.logged() == [logged]


@pytest.mark.parametrize(
    ("claimed_now", "member"),
    [("other", Member(9, 8, ("moved",))), ("nine", Member(10, 8, ("moved",))), ("nine", Member(9, 8, ("g",)))],
)
def test_other_processes_of_the_gid_are_not_asked(claimed_now, member):
    """Scenario §3.3-34: who has claimed the new member is another group; or nobody knows a new place."""
    for chore in (PULL, AskDrop(3, 4, Holder(9, 1, 4), ("g",))):
        scene = Scene([chore], **joined_again("nine", claimed_now, member))
        scene.reconciler.poke()
        assert scene.logged() == []
        assert {endpoints for endpoints, verb, _ in scene.ask.questions if verb != CTL_QUERY} == {("g",)}


def test_drop_is_owed_until_the_giver_confirms():
    """Scenario §3.3-30: dropped only after the giver said so; the number names the copy."""
    chore = AskDrop(3, 4, Holder(9, 1, 4), ("g",))
    scene = Scene([chore], **{SHARD_DROP: Done(False)})
    scene.reconciler.poke()
    assert scene.logged() == []
    scene.ask.answers[SHARD_DROP] = Done(True)
    scene.clock.advance(1)
    scene.reconciler.poke()
    assert scene.logged() == [Dropped(3, 4)]
    assert GROUP_COMMANDS.decode(scene.ask.questions[0][2]) == Drop(3, 4)


def test_hand_over_freezes_when_the_taker_does_not_come():
    scene = Scene([HandOver(3, 4, Holder(9, 1, 5))])
    scene.reconciler.poke()
    scene.clock.advance(HAND_OVER_SECONDS - 0.1)
    assert scene.logged() == []
    scene.clock.advance(0.2)
    assert scene.logged() == [Freeze(3, 4)]


def test_hand_over_waits_as_long_as_the_taker_asks():
    """A copy that is being copied is served until its taker wants the freeze, or is silent."""
    scene = Scene([HandOver(3, 4, Holder(9, 1, 5))])
    scene.reconciler.poke()
    for _ in range(5):
        scene.clock.advance(HAND_OVER_SECONDS - 0.1)
        scene.asked_at[3, 4] = scene.clock.seconds()
    assert scene.logged() == []
    scene.clock.advance(HAND_OVER_SECONDS)
    assert scene.logged() == [Freeze(3, 4)]
    assert scene.asked_at == {}


def test_what_is_served_is_copied_at_half_the_pace():
    """Decisions/0007: after a chunk that took a while the taker rests as long, but not when level, nor when hurried."""
    for chore, answer, logged in (
        (PULL, PullAnswer("ahead", (), Cursor(("key", "k"), False, 0)), 0),
        (PULL, PullAnswer("ahead", (), Cursor(("key", "k"), True, 0), level=True), 1),
        (PULL, LAST, 1),
        (HURRIED, PullAnswer("ahead", (), Cursor(("key", "k"), True, 0)), 1),
    ):
        scene = Scene([chore], **{SHARD_PULL: Deferred()})
        scene.reconciler.poke()
        scene.clock.advance(0.5)
        scene.ask.answers[SHARD_PULL].callback(answer)
        scene.clock.advance(0.4)
        assert len(scene.logged()) == logged
        scene.clock.advance(0.2)
        assert len(scene.logged()) == 1


def test_chore_no_longer_wanted_is_cancelled():
    scene = Scene([PULL], **{SHARD_PULL: Deferred()})
    scene.reconciler.poke()
    waiting = scene.ask.answers[SHARD_PULL]
    scene.wanted = []
    scene.reconciler.poke()
    assert waiting.called


def test_a_chore_runs_once_at_a_time():
    scene = Scene([PULL], **{SHARD_PULL: Deferred()})
    scene.reconciler.poke()
    scene.reconciler.poke()
    assert len(scene.ask.questions) == 1


def test_scenario_27_only_a_leader_works():
    scene = Scene([PULL], **{SHARD_PULL: Deferred()})
    scene.replica.leads = False
    scene.reconciler.poke()
    assert scene.ask.questions == []
    scene.replica.leads = True
    scene.reconciler.poke()
    scene.replica.leads = False
    scene.reconciler.poke()
    assert scene.ask.answers[SHARD_PULL].called


def test_controller_is_founded_with_a_random_id():
    replica = Led()
    chores = ControllerChores(replica, Random(1), 16, 1000)
    reconciler = Reconciler(replica, lambda: [FoundCluster()], chores.work, Clock())
    reconciler.poke()
    found = CONTROLLER_COMMANDS.decode(replica.submitted[0])
    assert isinstance(found, Found)
    assert (len(found.cluster), found.shards, found.value_bytes_max) == (32, 16, 1000)


def test_stop_cancels_and_leaves_nothing():
    scene = Scene([PULL], **{SHARD_PULL: Deferred()})
    scene.reconciler.start()
    scene.reconciler.poke()
    scene.reconciler.stop()
    assert scene.ask.answers[SHARD_PULL].called
    assert scene.clock.getDelayedCalls() == []
