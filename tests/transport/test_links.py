"""A link: dialled when wanted, waiting within reason, torn down when nobody is there. On virtual time."""

import pytest
from pb_testing import MemoryTransport, echo
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from twisted_kv.constants import MIB, OUTBOX_BYTES_MAX, WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.errors import KeyTooLong
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport.complaints import Complaints
from twisted_kv.transport.links import PATIENCE, Link
from twisted_kv.transport.listening import HOSPITALITY, DoorFactory
from twisted_kv.transport.roots import DoorRoot


class Stage:
    """A link, and the other side of its endpoint, played by the test."""

    def __init__(self, doors=None, plain=None):
        self.clock = Clock()
        self.got = []
        doors = {"echo": echo, "step": self.step, "hang": lambda body: Deferred(), **(doors or {})}
        self.factory = DoorFactory(DoorRoot(doors, plain or {}, self.clock), self.clock, HOSPITALITY)
        self.attempts = []
        self.cancelled = 0
        self.retired = []
        self.client = self.server = None
        self.link = Link(self.clock, "there", self, PATIENCE, Complaints(self.clock), self.retired.append)

    def step(self, body):
        self.got.append(body)
        return succeed(b"")

    def connect(self, factory):
        """IStreamClientEndpoint."""

        def cancelled(deferred):
            self.cancelled += 1

        connecting = Deferred(cancelled)
        self.attempts.append((factory, connecting))
        return connecting

    def accept(self, silent=False):
        """The connection is made; a silent server never says a word."""
        factory, connecting = self.attempts[-1]
        client = factory.buildProtocol(None)
        self.client = MemoryTransport(client)
        client.makeConnection(self.client)
        connecting.callback(client)
        self.server = None
        if not silent:
            server = self.factory.buildProtocol(None)
            self.server = MemoryTransport(server)
            server.makeConnection(self.server)
            self.pump()

    def refuse(self):
        self.attempts[-1][1].errback(ConnectionRefusedError())

    def pump(self):
        while moved := self.turn():
            assert moved

    def turn(self):
        """Carry what is there one step both ways."""
        moved = False
        for source, target in ((self.client, self.server), (self.server, self.client)):
            data = source.taken()
            for start in range(0, len(data), 65_536):
                moved = True
                if target.protocol is not None:
                    target.protocol.dataReceived(data[start : start + 65_536])
        return moved

    def call(self, verb="echo", body=b"x", timeout=10.0):
        fired = []
        call = self.link.call(verb, body, timeout)
        call.addBoth(fired.append)
        return call, fired

    def advance(self, seconds, pumping=True):
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            if pumping and self.server is not None and self.client.protocol is not None:
                self.pump()


def up(**how):
    stage = Stage(**how)
    _, fired = stage.call()
    stage.accept()
    assert fired == [b"x"]
    return stage


# ── coming up ──────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_dialled_until_somebody_wants_it():
    stage = Stage()
    stage.advance(100)
    assert stage.attempts == [] and stage.clock.getDelayedCalls() == []


def test_calls_made_while_the_link_connects_wait_and_are_answered_in_order():
    """Brief: they wait within their timeout."""
    stage = Stage()
    fired = [stage.call(body=b"%d" % number)[1] for number in range(3)]
    stage.advance(2, pumping=False)
    assert fired == [[], [], []] and len(stage.attempts) == 1
    stage.accept()
    assert fired == [[b"0"], [b"1"], [b"2"]]
    assert stage.link.backlog == 0


def test_a_call_whose_time_is_up_before_the_link_stands_was_not_sent():
    stage = Stage()
    _, fired = stage.call("step", timeout=1.0)
    stage.advance(2, pumping=False)
    assert type(fired[0].value) is NotSent
    stage.accept()
    assert stage.got == [] and stage.link.backlog == 0


def test_a_refused_connection_fails_all_who_wait_at_once():
    """A Clerk must be able to go on to the next server."""
    stage = Stage()
    fired = [stage.call()[1] for _ in range(3)]
    stage.refuse()
    assert [type(got[0].value) for got in fired] == [NotSent] * 3
    assert stage.clock.getDelayedCalls() == []


def test_the_pauses_between_attempts_grow_to_a_second_and_calls_wait_them_out():
    """Ecosystem §1.7: the defaults of backoffPolicy are far too slow for Raft."""
    stage = Stage()
    pauses = []
    for _ in range(12):
        began = stage.clock.seconds()
        _, fired = stage.call()
        while stage.attempts[-1][1].called:
            stage.clock.advance(0.01)
        stage.refuse()
        assert type(fired[0].value) is NotSent
        pauses.append(round(stage.clock.seconds() - began, 2))
    assert pauses[0] == 0 and 0.04 < pauses[1] < 0.08
    assert pauses == sorted(pauses)
    assert 0.9 < pauses[-1] <= PATIENCE.retry_max + 0.02


def test_a_link_that_stood_is_redialled_at_once_and_its_pauses_begin_anew():
    """A server that was restarted must not pay for what was long ago."""
    stage = Stage()
    for _ in range(8):
        stage.call()
        while stage.attempts[-1][1].called:
            stage.clock.advance(0.05)
        stage.refuse()
    _, fired = stage.call()
    stage.advance(1, pumping=False)
    stage.accept()
    assert fired == [b"x"]
    stage.advance(PATIENCE.settled + 0.5)
    stage.client.lose()
    attempts = len(stage.attempts)
    stage.call()
    assert len(stage.attempts) == attempts + 1
    stage.refuse()
    stage.call()
    stage.advance(0.1, pumping=False)
    assert len(stage.attempts) == attempts + 2


def test_a_silent_peer_is_given_up():
    """Ecosystem §1.7: whenConnected fires on TCP connect; a peer that never negotiates hangs a naive client."""
    stage = Stage()
    _, fired = stage.call()
    stage.accept(silent=True)
    stage.advance(PATIENCE.greeting - 0.5, pumping=False)
    assert fired == []
    stage.advance(1, pumping=False)
    assert stage.client.aborted and type(fired[0].value) is NotSent
    assert stage.clock.getDelayedCalls() == []


def test_a_connection_that_is_never_made_is_given_up():
    stage = Stage()
    _, fired = stage.call()
    stage.advance(PATIENCE.greeting + 0.5, pumping=False)
    assert stage.cancelled == 1 and type(fired[0].value) is NotSent


def test_a_peer_that_closes_at_once_does_not_hang_the_link():
    """Ecosystem §1.7: ClientService gets stuck here."""
    stage = Stage()
    for _ in range(5):
        _, fired = stage.call()
        while len(stage.attempts) == 0 or stage.attempts[-1][1].called:
            stage.clock.advance(0.05)
        stage.accept(silent=True)
        stage.client.lose()
        assert type(fired[0].value) is NotSent
    _, fired = stage.call()
    stage.advance(1, pumping=False)
    stage.accept()
    assert fired == [b"x"]


def test_one_way_sends_leave_when_the_link_is_up_and_are_dropped_in_a_pause():
    """INetwork: may be lost, never raises."""
    stage = Stage()
    stage.link.send("step", b"first")
    stage.refuse()
    stage.link.send("step", b"in the pause")
    stage.advance(0.2, pumping=False)
    stage.link.send("step", b"second")
    stage.accept()
    stage.link.send("step", b"third")
    stage.pump()
    assert stage.got == [b"second", b"third"]
    assert stage.link.backlog == 0


# ── going down ─────────────────────────────────────────────────────────────────────────────────────


def test_a_lost_connection_is_a_lost_answer_and_is_remade_at_the_next_use():
    """Scenario §3.6-51: unknown for all outstanding calls; the root is looked up anew."""
    stage = up()
    stage.advance(2)
    _, fired = stage.call("hang")
    stage.pump()
    stage.client.lose()
    assert type(fired[0].value) is LostAnswer
    assert len(stage.attempts) == 1
    _, fired = stage.call()
    assert len(stage.attempts) == 2
    stage.accept()
    assert fired == [b"x"]


def test_a_link_that_never_stands_for_long_is_not_redialled_in_a_hot_loop():
    stage = Stage()
    for _ in range(20):
        stage.link.send("step", b"x")
        if stage.attempts and not stage.attempts[-1][1].called:
            stage.accept()
            stage.client.lose()
        stage.clock.advance(0.01)
    assert len(stage.attempts) < 6


def test_a_call_whose_answer_does_not_come_in_time_is_a_lost_answer():
    """Ecosystem §1.4: a Deferred from callRemote has no timeout."""
    stage = up()
    _, fired = stage.call("hang", timeout=1.0)
    stage.advance(1.5)
    assert type(fired[0].value) is LostAnswer
    assert stage.client.protocol.waitingForAnswers == {}
    _, fired = stage.call()
    stage.pump()
    assert fired == [b"x"]


def test_without_a_sign_of_life_a_link_in_use_is_torn_down():
    """Hazards S6, half-open connections: TCP alone would take minutes to notice, and to come back."""
    stage = up()
    stage.link.send("step", b"into the void")
    stage.advance(PATIENCE.silence + PATIENCE.sign + 1.5, pumping=False)
    assert stage.client.aborted
    stage.link.send("step", b"x")
    stage.advance(0.1, pumping=False)
    stage.accept()
    stage.link.send("step", b"y")
    stage.pump()
    assert stage.got == [b"y"] or stage.got == [b"x", b"y"]


def test_a_link_that_only_sends_one_way_stays_up_while_the_other_side_lives():
    stage = up()
    for _ in range(60):
        stage.link.send("step", b"beat")
        stage.advance(0.5)
    assert len(stage.attempts) == 1 and len(stage.got) == 60


def test_a_slow_answer_is_no_missing_sign_of_life():
    stage = up()
    _, fired = stage.call("hang", timeout=60.0)
    stage.advance(30)
    assert fired == [] and len(stage.attempts) == 1 and not stage.client.aborted


def test_a_link_that_nobody_uses_closes_itself_and_retires():
    stage = up()
    stage.advance(PATIENCE.idle - 1)
    assert not stage.client.disconnecting
    stage.advance(2)
    assert stage.client.disconnecting and stage.retired == [stage.link]
    stage.client.lose()
    assert stage.clock.getDelayedCalls() == [] or stage.factory.connections


def test_a_link_that_waits_for_an_answer_is_not_idle():
    stage = up()
    stage.call("hang", timeout=1_000.0)
    stage.advance(PATIENCE.idle * 2)
    assert stage.retired == []


def test_a_clock_that_is_set_back_does_not_stop_redialling():
    """Hazards §0.1."""
    stage = Stage()
    stage.clock.advance(1_000_000)
    stage.call()
    stage.refuse()
    stage.clock.rightNow = 0.0
    _, fired = stage.call(timeout=100.0)
    stage.advance(2, pumping=False)
    assert len(stage.attempts) == 2
    stage.accept()
    assert fired == [b"x"]


# ── errors, cancelling, limits ─────────────────────────────────────────────────────────────────────


def test_an_error_of_the_other_side_is_not_sent_if_definite_and_lost_otherwise(logged_errors):
    """INetwork: NotSent promises that nothing happened."""

    def late(body):
        raise ValueError("secret")

    stage = up(doors={"late": late})
    _, fired = stage.call("late")
    stage.pump()
    assert type(fired[0].value) is LostAnswer and "secret" not in str(fired[0].value)
    logged_errors.clear()
    _, fired = stage.call("nobody")
    stage.pump()
    assert type(fired[0].value) is NotSent and "BadRequest" in str(fired[0].value)


def test_ask_calls_a_plain_name_and_gives_the_servers_own_error():
    def status(section="all"):
        if section == "bad":
            raise KeyTooLong("5000 bytes")
        return succeed({"section": section, "members": [1, 2]})

    stage = up(plain={"status": status})
    fired = []
    for arguments in ((), ("bad",)):
        stage.link.ask("status", arguments, 5.0).addBoth(fired.append)
    stage.pump()
    assert fired[0] == {"section": "all", "members": [1, 2]}
    assert type(fired[1].value) is KeyTooLong and fired[1].value.text == "5000 bytes"


@pytest.mark.parametrize("stage_name", ["connecting", "in flight", "handing over", "fetching"])
def test_cancelling_works_at_every_stage_and_leaves_nothing(stage_name):
    """Contract §3: cancelling works."""
    entered = []
    large = b"x" * 5 * WIRE_PART_BYTES
    doors = {"large": lambda body: succeed(large), "write": lambda body: (entered.append(body), Deferred())[1]}
    if stage_name == "connecting":
        stage = Stage(doors=doors)
        call, fired = stage.call()
    else:
        stage = up(doors=doors)
        calls = {"in flight": ("hang", b""), "handing over": ("write", large), "fetching": ("large", b"")}
        call, fired = stage.call(*calls[stage_name])
        for _ in range(3):
            stage.turn()
    assert fired == []
    call.cancel()
    assert fired[0].check(CancelledError)
    if stage_name == "connecting":
        stage.accept()
    stage.pump()
    assert entered == [] and stage.link.backlog == 0
    assert stage.client.protocol.waitingForAnswers == {}
    _, fired = stage.call("large", large)
    stage.pump()
    assert fired == [large]


def test_large_bodies_cross_both_ways():
    """Scenario §3.6-50."""
    stage = up()
    for size in (WIRE_PART_BYTES, WIRE_PART_BYTES + 1, 3 * MIB):
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        _, fired = stage.call("echo", body, timeout=100.0)
        stage.pump()
        assert fired == [body]


def test_a_heartbeat_overtakes_a_large_body_both_ways():
    """House: heartbeats overtake chunks; at most the parts in flight are before it."""
    order = []
    large = b"x" * 20 * WIRE_PART_BYTES

    def write(body):
        order.append("large")
        return succeed(large)

    stage = up(doors={"write": write, "beat": lambda body: (order.append(body), succeed(b""))[1]})
    _, fired = stage.call("write", large)
    turns = 0
    while not fired:
        if turns in (3, 30):
            stage.link.send("beat", b"beat %d" % turns)
        turns += 1
        assert stage.turn()
    assert fired == [large]
    assert order == [b"beat 3", "large", b"beat 30"]


def test_a_large_one_way_body_is_carried_out_once_whole():
    stage = up()
    large = b"x" * 3 * WIRE_PART_BYTES
    stage.link.send("step", large)
    assert stage.link.backlog >= len(large)
    stage.pump()
    assert stage.got == [large] and stage.link.backlog == 0


def test_a_request_that_was_handed_over_only_in_part_was_not_sent():
    """Its parts have no effect."""
    entered = []
    stage = up(doors={"write": lambda body: (entered.append(body), Deferred())[1]})
    _, fired = stage.call("write", b"x" * 5 * WIRE_PART_BYTES)
    stage.turn()
    stage.client.lose()
    assert type(fired[0].value) is NotSent and entered == []
    stage = up()
    _, timed_out = stage.call("echo", b"x" * 5 * WIRE_PART_BYTES, timeout=1.0)
    stage.advance(2, pumping=False)
    assert type(timed_out[0].value) is NotSent


def test_a_large_answer_that_does_not_come_whole_is_a_lost_answer():
    """The call has been carried out."""
    stage = up(doors={"large": lambda body: succeed(b"x" * 9 * WIRE_PART_BYTES)})
    _, fired = stage.call("large")
    for _ in range(3):
        stage.turn()
    stage.client.lose()
    assert type(fired[0].value) is LostAnswer


def test_what_the_other_side_does_not_take_is_bounded():
    """INetwork: beyond OUTBOX_BYTES_MAX sends are dropped and calls are not sent."""
    stage = up()
    piece = b"x" * 200_000
    for _ in range(2 * OUTBOX_BYTES_MAX // len(piece)):
        stage.link.send("step", piece)
    assert OUTBOX_BYTES_MAX - len(piece) - 1_000 < stage.link.backlog <= OUTBOX_BYTES_MAX + 20_000
    _, fired = stage.call("step", piece)
    assert type(fired[0].value) is NotSent
    stage.pump()
    assert stage.link.backlog == 0 and len(stage.got) < 2 * OUTBOX_BYTES_MAX // len(piece)


def test_what_waits_for_a_link_counts_and_is_bounded_too():
    stage = Stage()
    large = b"x" * WIRE_BODY_BYTES_MAX
    _, first = stage.call("echo", large)
    _, second = stage.call("echo", large)
    stage.link.send("step", large)
    assert first == [] and type(second[0].value) is NotSent
    assert stage.link.backlog == len(large)
    stage.refuse()
    assert stage.link.backlog == 0


def test_a_body_beyond_the_limit_is_not_sent():
    stage = up()
    _, fired = stage.call("echo", b"x" * (WIRE_BODY_BYTES_MAX + 1))
    assert type(fired[0].value) is NotSent
    stage.link.send("step", b"x" * (WIRE_BODY_BYTES_MAX + 1))
    stage.pump()
    assert stage.got == []


# ── closing ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", ["at rest", "connecting", "negotiating", "pausing", "up"])
def test_close_ends_the_link_whatever_it_is_doing(state):
    """INetwork: fires when all are gone."""
    stage, fired, closed = Stage(), [], []
    if state != "at rest":
        _, fired = stage.call("hang")
    if state == "negotiating":
        stage.accept(silent=True)
    if state == "up":
        stage.accept()
    if state == "pausing":
        stage.refuse()
        _, fired = stage.call()
    stage.link.close().addCallback(closed.append)
    stage.link.close().addCallback(closed.append)
    if state in ("negotiating", "up"):
        assert closed == [] and stage.client.disconnecting
        stage.client.lose()
    assert closed == [None, None]
    if fired:
        assert type(fired[0].value) is (LostAnswer if state == "up" else NotSent)
    if state == "up":
        stage.server.lose()
    assert stage.clock.getDelayedCalls() == []
    stage.link.send("step", b"x")
    _, fired = stage.call()
    assert type(fired[0].value) is NotSent


def test_close_does_not_wait_for_a_peer_that_never_closes():
    stage, closed = up(), []
    stage.link.close().addCallback(closed.append)
    stage.advance(PATIENCE.farewell + 0.5, pumping=False)
    assert closed == [None] and stage.client.aborted
