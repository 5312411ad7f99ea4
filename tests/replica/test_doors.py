"""Doors look once, pass on, and seal the answer; nothing bad enters the log, nothing raises."""

import zlib

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_kv.codec import FORMAT_VERSION, Codec
from twisted_kv.consensus.types import NOBODY, NotLeader, Role, Standing
from twisted_kv.constants import CONFIGURATION_HELD_SECONDS, SHARDS_MAX
from twisted_kv.errors import Overloaded
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    OPERATIONS_PER_REQUEST_MAX,
    PULLS,
    QUERIES,
    READS,
    Administer,
    Claim,
    ConfigurationAnswer,
    Done,
    Drop,
    Enroll,
    Freeze,
    Leave,
    Open,
    Operation,
    PullAnswer,
    PullRows,
    QueryConfiguration,
    Read,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.replica.admission import QUEUE_SECONDS
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.pending import LeadershipLost, Overwritten, ReadAbandoned
from twisted_kv.replica.waits import Waits
from twisted_kv.transport.wire import ANSWERS, Busy, NotLeading, Outcomes, Rejected, Unsettled


class Corridor:
    """Records what is submitted; answers what it is told to."""

    def __init__(self):
        self.standing = Standing(Role.LEADER, 1, 2)
        self.leads = True
        self.submitted = []
        self.answer = None
        self.error = None
        self.held = PullAnswer("wait")
        self.asked = []
        self.told = NotSent("nobody is there")

    def call(self, endpoint, verb, body, timeout):
        self.asked.append((endpoint, verb, body))
        return fail(self.told) if isinstance(self.told, Exception) else succeed(ANSWERS.encode(self.told))

    def submit(self, command):
        if self.error is not None:
            raise self.error
        self.submitted.append(command)
        done = Deferred()
        done.callback(self.answer)
        return done if not isinstance(self.answer, Exception) else fail(self.answer)

    def read(self, query):
        return self.submit(query)

    def query(self, query):
        return self.held


class Machine:
    """Knows a limit; serves every shard but those of keys that begin with "elsewhere"; shard 9 is frozen."""

    configuration = Configuration(value_bytes_max=100)

    def turned_away(self, command):
        if all(operation.key.startswith("elsewhere") for operation in command.operations):
            return tuple(WrongGroup(3, 9) for _ in command.operations)
        return None

    def is_frozen(self, shard, num):
        return shard == 9


@pytest.fixture
def corridor():
    return Corridor()


@pytest.fixture
def group(corridor):
    return GroupDoors(1, lambda: corridor, Machine(), Clock(), {}).doors


@pytest.fixture
def controller(corridor):
    return ControllerDoors(1, lambda: corridor, {1: "e1", 2: "e2"}, corridor, Waits(Clock())).doors


def told(answer):
    return ANSWERS.decode(answer.result)


def put(key="k", value="v", **numbers):
    return Operation("p", key, value, numbers.get("session", 1), numbers.get("sequence", 1), 1)


WRITE = GROUP_COMMANDS.encode(Write((put(),)))


def test_the_body_is_the_command(group, corridor):
    """Decision 0001: what a Clerk sent is what stands in the log."""
    corridor.answer = (Done(),)
    assert told(group["kv_write"](WRITE)) == Outcomes(1, (Done(),))
    assert corridor.submitted == [WRITE]


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (put(key=""), "KeyTooLong"),
        (put(key="k" * 4097), "KeyTooLong"),
        (put(value="v" * 101), "ValueTooLarge"),
        (put(value=5), "WrongType"),
        (put(value=None), "WrongType"),
        (put(sequence=0), "BadRequest"),
    ],
)
def test_bad_operation_never_enters_the_log(group, corridor, operation, error):
    """Contract §6: refused before it enters the log, with nothing changed."""
    answer = told(group["kv_write"](GROUP_COMMANDS.encode(Write((put(), operation)))))
    assert isinstance(answer, Rejected)
    assert answer.error == error
    assert corridor.submitted == []


@pytest.mark.parametrize("verb", ["kv_write", "kv_read", "kv_open", "kv_scan", "shard_pull", "shard_drop"])
@pytest.mark.parametrize("body", [b"", b"nonsense", WRITE[:-1], b"\x02" + WRITE[1:], READS.encode(Read(()))[:4]])
def test_malformed_bodies_are_rejected(group, corridor, verb, body):
    assert isinstance(told(group[verb](body)), Rejected)
    assert corridor.submitted == []


@pytest.mark.parametrize("verb", ["ctl_enroll", "ctl_change", "ctl_claim", "ctl_query", "ctl_next"])
def test_malformed_bodies_are_rejected_by_a_controller(controller, corridor, verb):
    assert isinstance(told(controller[verb](b"nonsense")), Rejected)
    assert corridor.submitted == []


def test_a_door_takes_only_its_own_commands(group, controller, corridor):
    """A client cannot smuggle a Freeze through the door of writes, nor a claim through that of changes."""
    freeze = GROUP_COMMANDS.encode(Freeze(1, 1))
    for verb in ("kv_write", "kv_open", "shard_drop"):
        assert isinstance(told(group[verb](freeze)), Rejected)
    enroll = CONTROLLER_COMMANDS.encode(Administer(1, 1, 1, Leave((1,))))
    for verb in ("ctl_enroll", "ctl_claim"):
        assert isinstance(told(controller[verb](enroll)), Rejected)
    assert corridor.submitted == []


@pytest.mark.parametrize(
    ("raised", "answer"),
    [(NotLeader(2), NotLeading(1, 2)), (Overloaded("full", 0.5), Busy(1, 0.5, True))],
)
def test_turned_away_at_once(group, corridor, raised, answer):
    corridor.error = raised
    assert told(group["kv_write"](WRITE)) == answer


@pytest.mark.parametrize(
    ("failure", "answer"),
    [
        (LeadershipLost(2), Unsettled(1, 2)),
        (Overwritten(), NotLeading(1, 2)),
        (ReadAbandoned(2), NotLeading(1, 2)),
    ],
)
def test_what_became_of_it(group, corridor, failure, answer):
    """Scenario §3.2-18, 20: an unknown outcome is told as such, a definite no as such."""
    corridor.answer = failure
    assert told(group["kv_write"](WRITE)) == answer


def test_busy_until_formed():
    doors = GroupDoors(1, lambda: None, Machine(), Clock(), {}).doors
    for verb, body in (("kv_write", WRITE), ("kv_read", READS.encode(Read(("k",))))):
        assert isinstance(told(doors[verb](body)), Busy)


def test_scenario_31_misdirected_writes_do_not_grow_the_log(group, corridor):
    """Scenario §3.3-31: retries against a group that does not serve the shard cost no log entry."""
    write = GROUP_COMMANDS.encode(Write((put(key="elsewhere"),)))
    assert told(group["kv_write"](write)) == Outcomes(1, (WrongGroup(3, 9),))
    assert corridor.submitted == []


def test_answers_fit_into_a_body(group, corridor):
    """What does not fit is left out, never refused; one always fits."""
    corridor.answer = tuple(Done("v" * (3 << 20)) for _ in range(3))
    body = READS.encode(Read(("a", "b", "c")))
    assert len(told(group["kv_read"](body)).outcomes) == 1
    corridor.answer = (Done("é" * (8 << 20)), Done(None))
    assert told(group["kv_read"](body)).outcomes == corridor.answer


def test_open_needs_a_whole_nonce(group, corridor):
    corridor.answer = (Done(1),)
    assert isinstance(told(group["kv_open"](GROUP_COMMANDS.encode(Open((1,), b"short")))), Rejected)
    assert told(group["kv_open"](GROUP_COMMANDS.encode(Open((1,), bytes(16))))) == Outcomes(1, (Done(1),))


PULL = PULLS.encode(PullRows(3, 4, BEGINNING, 1000, False))


def test_any_replica_answers_from_a_frozen_copy(group, corridor):
    corridor.leads = False
    corridor.held = PullAnswer("rows", last=True)
    frozen = PULLS.encode(PullRows(9, 4, BEGINNING, 1000, False))
    assert told(group["shard_pull"](frozen)) == PullAnswer("rows", last=True)


def test_only_the_leader_says_wait(group, corridor):
    """A follower may lag: it sends on to the leader, who freezes what is being handed over."""
    corridor.leads = False
    corridor.query = lambda query: pytest.fail("nothing is sorted in vain")
    assert told(group["shard_pull"](PULL)) == NotLeading(1, 2)
    del corridor.query
    corridor.leads = True
    for state in ("wait", "ahead"):
        corridor.held = PullAnswer(state)
        assert told(group["shard_pull"](PULL)) == PullAnswer(state)
    assert corridor.submitted == []
    corridor.held = PullAnswer("handing")
    group["shard_pull"](PULL)
    assert GROUP_COMMANDS.decode(corridor.submitted[0]) == Freeze(3, 4)


def test_a_large_copy_is_sorted_over_several_turns(corridor):
    """No chunk is given before, and no turn takes all of it (decisions/0007)."""
    clock = Clock()
    group = GroupDoors(1, lambda: corridor, Machine(), clock, {}).doors
    held = [PullAnswer("sorting"), PullAnswer("sorting"), PullAnswer("ahead")]
    corridor.query = lambda query: held.pop(0)
    answers = []
    group["shard_pull"](PULL).addCallback(answers.append)
    assert len(held) == 2 and len(clock.getDelayedCalls()) == 1, "one look, then others have their turn"
    clock.advance(0)
    assert [ANSWERS.decode(answer) for answer in answers] == [PullAnswer("ahead")]


def test_a_leader_without_room_says_so_before_it_reads_the_request(corridor):
    """Issue 4: what is refused must be cheap, or throughput falls with what is asked."""
    group = GroupDoors(1, lambda: corridor, Machine(), Clock(), {}).doors
    corridor.submit = corridor.read = lambda _: Deferred()
    large = GROUP_COMMANDS.encode(Write((put(value="v" * 100),) * 1000))
    assert not group["kv_write"](large).called
    assert told(group["kv_write"](b"nonsense" * 10_000)) == Busy(1, QUEUE_SECONDS, leads=True)
    assert told(group["kv_read"](b"nonsense" * 10_000)) == Busy(1, QUEUE_SECONDS, leads=True)


def test_room_is_made_by_whatever_answer(corridor):
    group = GroupDoors(1, lambda: corridor, Machine(), Clock(), {}).doors
    large = GROUP_COMMANDS.encode(Write((put(value="v" * 100),) * 1000))
    for outcome in ((Done(),) * 1000, LeadershipLost(2)):
        corridor.answer = outcome
        for _ in range(100):
            assert not isinstance(told(group["kv_write"](large)), Busy)


def test_whoever_waits_for_a_taker_learns_that_it_asked(corridor):
    clock, asked_at = Clock(), {(3, 4): 0.0}
    clock.advance(5)
    corridor.leads, corridor.held = True, PullAnswer("ahead")
    group = GroupDoors(1, lambda: corridor, Machine(), clock, asked_at).doors
    group["shard_pull"](PULL)
    group["shard_pull"](PULLS.encode(PullRows(3, 5, BEGINNING, 1000, False)))
    assert asked_at == {(3, 4): 5.0}


def test_drop_answers_the_machines_word(group, corridor):
    corridor.answer = Done(False)
    assert told(group["shard_drop"](GROUP_COMMANDS.encode(Drop(3, 4)))) == Done(False)


QUERY = QUERIES.encode(QueryConfiguration(-1))


def test_a_controller_that_does_not_lead_asks_the_one_that_does(controller, corridor):
    """A client may know only one controller; what is asked for another is never passed on again."""
    corridor.error, corridor.told = NotLeader(2), ConfigurationAnswer("C", Configuration(), "")
    assert told(controller["ctl_query"](QUERY)) == corridor.told
    assert corridor.asked == [("e2", "peer_ctl_query", QUERY)]
    assert told(controller["peer_ctl_query"](QUERY)) == NotLeading(1, 2)
    assert len(corridor.asked) == 1


@pytest.mark.parametrize(("trouble", "answer"), [(NotSent("no"), NotLeading(1, 2)), (LostAnswer("?"), Unsettled(1, 2))])
def test_what_is_said_when_the_leader_does_not_answer_either(controller, corridor, trouble, answer):
    """Scenario §3.2-20: a change that may have reached the leader is unsettled."""
    corridor.error, corridor.told = NotLeader(2), trouble
    assert told(controller["ctl_query"](QUERY)) == answer


def test_query_before_the_cluster_is_founded_waits(controller, corridor):
    query = QUERIES.encode(QueryConfiguration(-1))
    corridor.answer = ConfigurationAnswer("", Configuration(), "")
    assert isinstance(told(controller["ctl_query"](query)), Busy)
    corridor.answer = ConfigurationAnswer("C", Configuration(), "")
    assert told(controller["ctl_query"](query)).cluster == "C"


class Waiting:
    """A controller whose newest configuration is the one with number 1, and what it said to who asked for the next."""

    def __init__(self, corridor, num=2):
        self.clock = Clock()
        self.corridor = corridor
        self.waits = Waits(self.clock)
        doors = ControllerDoors(1, lambda: corridor, {1: "e1", 2: "e2"}, corridor, self.waits).doors
        corridor.held = corridor.answer = ConfigurationAnswer("C", Configuration(num=1), "")
        self.answered = doors["ctl_next"](QUERIES.encode(QueryConfiguration(num, 7)))

    def appears(self, num):
        self.corridor.held = self.corridor.answer = ConfigurationAnswer("C", Configuration(num=num), "")
        self.waits.look()


def test_who_asks_for_the_next_configuration_waits_for_it(corridor):
    """Issue 4: with 100 groups an idle controller is asked a few times per second."""
    waiting = Waiting(corridor)
    waiting.clock.advance(CONFIGURATION_HELD_SECONDS / 2)
    waiting.waits.look()
    assert not waiting.answered.called and corridor.submitted == []
    waiting.appears(2)
    assert told(waiting.answered).configuration.num == 2
    assert corridor.submitted == [QueryConfiguration(2, 7)], "as any query, through a quorum"


def test_nobody_waits_for_a_configuration_that_is_there(corridor):
    assert told(Waiting(corridor, num=1).answered).configuration.num == 1


def test_who_has_waited_long_is_told_what_there_is(corridor):
    """Through a quorum: a controller that is cut off has no news, and sends who asks it elsewhere."""
    waiting = Waiting(corridor)
    waiting.clock.advance(CONFIGURATION_HELD_SECONDS)
    assert told(waiting.answered).configuration.num == 1
    assert corridor.submitted == [QueryConfiguration(2, 7)] and not waiting.clock.getDelayedCalls()


def test_a_controller_that_knows_no_leader_keeps_nobody_waiting(corridor):
    waiting = Waiting(corridor)
    corridor.standing, corridor.error = Standing(Role.CANDIDATE, 2, NOBODY), NotLeader(NOBODY)
    waiting.waits.look()
    assert told(waiting.answered) == NotLeading(1, NOBODY)


def test_a_controller_that_stops_keeps_nobody_waiting_and_asks_nobody(corridor):
    waiting = Waiting(corridor)
    waiting.waits.close()
    assert told(waiting.answered) == NotLeading(1, NOBODY)
    assert corridor.submitted == [] and not waiting.clock.getDelayedCalls()


WRITE_WITH = b"\x92\xa1w\x91\x96\xa1p\xa1k%b\x01\x01\x01"  # one put of key k, session and numbers 1


@pytest.mark.parametrize(
    "value",
    [b"\x80", b"\x90", b"\xdf\0\0\0\x01\x92\xff\xfe\xc0", b"\xdd\0\0\0\x02\x90\x90", b"\xde\0\0", b"\xdc\0\0"],
)
def test_a_value_that_holds_others_is_refused_before_it_is_made(group, corridor, value):
    """Found by fuzzing: keys of one hash in a map took a server of half a megabyte 12 s to decode."""
    packed = WRITE_WITH % value
    answer = told(group["kv_write"](seal(packed)))
    assert (answer.error, answer.text) == ("BadRequest", "a value is text or bytes")
    assert corridor.submitted == []


def test_what_one_request_may_ask_for_is_bounded(group, controller, corridor):
    """Found by fuzzing: counts that fit into a body and keep a replica, or its log, busy for minutes."""
    encode = Codec(object).encode
    many = OPERATIONS_PER_REQUEST_MAX + 1
    bad = {
        "kv_write": Write((put(),) * many),
        "kv_read": Read(("k",) * many),
        "kv_open": Open((1,) * (SHARDS_MAX + 1), bytes(16)),
        "ctl_enroll": Enroll(bytes(5000)),
        "ctl_claim": Claim(100, 1, "x" * 5000),
        "ctl_change": Administer(1, 1, 1, Leave((1 << 40,) * 200_000)),
    }
    for verb, request in bad.items():
        answer = told((group | controller)[verb](encode(request)))
        assert isinstance(answer, Rejected) and answer.error == "BadRequest", verb
    assert corridor.submitted == []


def seal(packed):
    return bytes([FORMAT_VERSION]) + zlib.crc32(packed).to_bytes(4, "big") + packed
