"""The guarded broker: what it takes, what it refuses, and what it does to who does not read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pb_testing import MemoryTransport, Wire, echo, encoded, message
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.spread import pb

from twisted_kv.constants import KIB, MIB
from twisted_kv.errors import BadRequest, KeyTooLong, Overloaded, ValueTooLarge, WrongType
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport.broker import LIMITS, REQUEST, GuardedBroker, Limits
from twisted_kv.transport.complaints import Complaints
from twisted_kv.transport.listening import HOSPITALITY

GREETING = encoded(b"pb") + encoded([b"version", 6])


def limited(**limits):
    return HOSPITALITY._replace(limits=Limits(**limits))


# ── the six attacks (hazards §0.4, S3) ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("greeted", [True, False])
@pytest.mark.parametrize(
    ("attack", "taken_max"),
    [
        pytest.param(b"\x01\x80" * 1_000_000, 64 * KIB, id="nested list openers"),
        pytest.param(b"\x7f\x7f\x27\x80" + encoded(b"x" * 1_000) * 120_000, 64 * KIB, id="a list that never ends"),
        pytest.param(b"\x00\x02\x80" + encoded(b"x" * 600_000) * 200, 2 * MIB, id="a short list of long strings"),
        pytest.param(encoded([1] * 240_000), 64 * KIB, id="many small ints"),
        pytest.param(message(b"get", [[b"set", *[k * (2**61 - 1) for k in range(1, 7_000)]]]), 128 * KIB, id="a set"),
        pytest.param(message(b"get", [1 << 400]), 64 * KIB, id="big ints"),
        pytest.param(b"\x01" * 1_000_000, 64 * KIB, id="digits without end"),
        pytest.param(b"\x7f\x7f\x7f\x7f\x82" + b"x" * MIB, 64 * KIB, id="a string of 256 MiB"),
    ],
)
def test_an_attack_is_cut_off_before_much_of_it_was_taken(attack, taken_max, greeted):
    """Hazards §0.4: each ends the connection, having cost a small part of what it would cost the stock broker."""
    wire = Wire(plain={"get": succeed}, raw=True, greeted=greeted)
    taken = wire.feed(attack)
    assert wire.cut
    assert taken <= taken_max
    assert wire.factory.connections == 0


def test_a_set_within_the_budgets_is_refused_unbuilt():
    """Hazards §0.4: colliding integers never meet in a hash table."""
    wire = Wire(plain={"get": succeed}, raw=True)
    wire.feed(message(b"get", [[b"set", *[k * (2**61 - 1) for k in range(1, 400)]]]))
    assert not wire.cut
    assert b"WrongType" in wire.server_transport.taken()


@pytest.mark.parametrize("deferred", [False, True])
def test_replies_that_nobody_reads_end_the_connection(deferred):
    """Hazards §0.4, S5: 400 unread replies of 500 kB may not pile up."""
    reply = b"x" * 500_000
    wire = Wire(plain={"get": lambda: succeed(reply) if deferred else reply}, raw=True)
    for request in range(1, 401):
        if wire.cut:
            break
        wire.feed(message(b"get", [], request))
    assert wire.cut
    assert request * 500_000 < LIMITS.unread_bytes_ceiling + 2 * MIB


def test_eight_mib_unread_for_a_second_end_the_connection_and_a_reader_who_is_behind_is_kept():
    """Hazards S5: the cap is on what stays unread; a burst that is being read is no attack."""
    for reads in (False, True):
        wire = Wire(plain={"get": lambda: b"x" * 500_000}, raw=True)
        for request in range(1, 21):
            wire.feed(message(b"get", [], request))
        assert wire.server.queued_bytes > LIMITS.unread_bytes_max
        wire.clock.advance(LIMITS.unread_seconds / 2)
        if reads:
            while wire.server.queued_bytes:
                wire.server_transport.taken()
        wire.clock.advance(LIMITS.unread_seconds)
        assert wire.cut is not reads
        if reads:
            assert not wire.clock.getDelayedCalls() or wire.factory.connections == 1


def test_no_requests_are_read_from_who_does_not_read_answers():
    """Hazards S5: backpressure first, force later."""
    wire = Wire(plain={"get": lambda: b"x" * 500_000}, raw=True)
    for request in range(1, 6):
        wire.feed(message(b"get", [], request))
    assert not wire.server_transport.reading
    answers = b""
    while data := wire.server_transport.taken():
        answers += data
    assert wire.server_transport.reading
    assert wire.server.queued_bytes == 0
    assert answers.count(b"x") == 5 * 500_000


# ── what has a place in the protocol, and what has not ─────────────────────────────────────────────


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        encoded(b"none"),
        encoded([b"pb"]),
        encoded(5),
        encoded(b"pb") + message(b"echo", [b"x"]),
        encoded(b"pb") + encoded([b"message", 1, b"root", b"echo", 1, b"", b""]),
        encoded(b"pb") + encoded([b"version", 7]),
        encoded(b"pb") + encoded(b"version"),
        encoded(b"pb") + encoded([b"version", 6, b"x" * 300]),
        GREETING + encoded([b"answer", 1, b"x"]),
        GREETING + encoded([b"error", 1, b"x"]),
        GREETING + encoded([b"decref", b"root"]),
        GREETING + encoded([b"decache", 1]),
        GREETING + encoded([b"uncache", 1]),
        GREETING + encoded([b"cachemessage", 1, 1, b"x", 1, [b"tuple"], [b"dictionary"]]),
        GREETING + encoded([b"didNotUnderstand", b"x"]),
        GREETING + encoded([b"connectionLost", b"x"]),
        GREETING + encoded([b"message", 1]),
        GREETING + encoded([b"message", b"1", b"root", b"echo", 1, [b"tuple", b"x"], [b"dictionary"]]),
        GREETING + encoded([b"message", 1, [b"root"], b"echo", 1, [b"tuple", b"x"], [b"dictionary"]]),
        GREETING + encoded([b"message", 1, b"root", 5, 1, [b"tuple", b"x"], [b"dictionary"]]),
        GREETING + encoded([]),
        GREETING + encoded([[b"message"]]),
        GREETING + b"\x7f\x87",
        GREETING + b"\x01\x99",
    ],
)
def test_whatever_has_no_place_here_cuts_the_connection(said):
    """Hazards §3-8, S3: never an uncaught exception, never an answer."""
    wire = Wire(doors={"echo": echo}, raw=True, greeted=False)
    wire.feed(said)
    assert wire.cut


@given(st.binary(max_size=60) | st.just(b""), st.booleans())
def test_no_bytes_raise_anything(data, greeted):
    """Hazards §3-8: fuzzing the port."""
    wire = Wire(doors={"echo": echo}, raw=True, greeted=greeted)
    wire.feed(data)


jelly_like = st.recursive(
    st.sampled_from([b"root", b"echo", b"get", b"tuple", b"dictionary", b"list", b"unicode", b"wire_part"])
    | st.integers(-1, 3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(jelly_like, min_size=6, max_size=6), st.sampled_from([b"message", b"version", b"answer"]))
def test_no_expression_raises_anything(parts, command):
    """Hazards §3-8: structured Banana, and valid calls with wrong types."""
    wire = Wire(doors={"echo": echo}, plain={"get": succeed}, raw=True)
    wire.feed(encoded([command, *parts]))
    wire.feed(encoded([command, 1, b"root", b"get", 1, *parts[:2]]))


def test_an_unknown_object_is_an_error_and_not_the_end():
    wire = Wire(doors={"echo": echo})
    other = wire.client.remoteForName("other")
    fired = []
    other.callRemote("echo", b"x").addErrback(lambda failure: fired.append(failure.value))
    wire.pump()
    assert type(fired[0]) is BadRequest and not wire.cut


def test_ordinary_calls_pass_the_budgets():
    """Hazards §0.4: the guard must not refuse 500 kB strings, nor a cluster of many groups."""
    wire = Wire(plain={"get": succeed}, stock=True)
    for value in ("x" * 640 * KIB, b"x" * 640 * KIB, {gid: ["tcp:127.0.0.1:7001"] * 3 for gid in range(1_000)}):
        assert wire.call("get", value) == [value]
    assert REQUEST.depth_max >= 16


# ── the traps of the stock broker (ecosystem §1.1, §1.8) ───────────────────────────────────────────


def test_an_argument_that_is_too_big_fails_the_deferred_and_leaves_nothing_behind():
    """Ecosystem §1.1: the stock callRemote raises synchronously and leaks an entry."""
    wire = Wire(doors={"echo": echo})
    for argument, kind in (("x" * 700_000, ValueTooLarge), ({1}, WrongType), (1 << 80, WrongType)):
        (failure,) = wire.call("echo", argument)
        assert type(failure.value) is kind
    assert wire.client.waitingForAnswers == {}
    assert wire.call("echo", b"still there") == [b"still there"]


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("reply", [b"x" * 700_000, "x" * 700_000, [1] * 655_360])
def test_a_reply_that_is_too_big_is_an_error_and_not_a_dead_or_silent_connection(reply, deferred):
    """Ecosystem §1.1, contract §4: ValueTooLarge, and the next call works."""
    wire = Wire(plain={"get": lambda: succeed(reply) if deferred else reply, "echo": succeed}, stock=True)
    (failure,) = wire.call("get")
    assert failure.type == b"twisted_kv.errors.ValueTooLarge"
    assert wire.call("echo", 1) == [1]


def test_calls_on_a_lost_connection_fail_and_do_not_raise():
    """Ecosystem §1.1: the stock callRemote raises DeadReferenceError synchronously."""
    wire = Wire(doors={"echo": echo})
    wire.client_transport.lose()
    (failure,) = wire.call("echo", b"x")
    assert type(failure.value) is NotSent
    assert wire.root.callRemote("echo", b"x", pbanswer=False) is None


def test_async_def_behind_a_plain_name_is_an_internal_error_and_not_a_silent_success(logged_errors):
    """Ecosystem §1.2: the stock broker would answer an Unpersistable."""

    async def get():
        return 1

    answer = get()
    wire = Wire(plain={"get": lambda: answer}, stock=True)
    (failure,) = wire.call("get")
    assert failure.value == "OutcomeUnknown: internal error; unknown; final"
    assert len(logged_errors) == 1
    logged_errors.clear()
    answer.close()


# ── calls ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_unexpected_error_is_hidden_from_the_caller_and_logged_once(logged_errors):
    """Hazards S12: the caller learns that it may have happened."""
    wire = Wire(plain={"a": lambda: 1 / 0, "b": lambda: fail(ValueError("secret"))}, stock=True)
    for name in ("a", "b"):
        (failure,) = wire.call(name)
        assert failure.value == "OutcomeUnknown: internal error; unknown; final"
    assert [event["log_failure"].type for event in logged_errors] == [ZeroDivisionError, ValueError]
    logged_errors.clear()


def test_an_expected_error_is_not_logged():
    """Ecosystem §1.3: the stock broker logs a traceback for each."""
    events = []
    wire = Wire(plain={"a": lambda: fail(KeyTooLong("x"))}, stock=True)
    globalLogPublisher.addObserver(events.append)
    wire.call("a")
    wire.call("nobody")
    wire.call("a", 1, 2, 3)
    globalLogPublisher.removeObserver(events.append)
    assert events == []


def test_a_flood_of_bad_one_way_calls_and_connections_leaves_a_bounded_log():
    """Hazards S13."""
    events = []
    wire = Wire(doors={"echo": echo}, raw=True)
    globalLogPublisher.addObserver(events.append)
    wire.feed(message(b"nobody\n", [], answered=0) * 20_000)
    for _ in range(1_000):
        Wire(raw=True, greeted=False, clock=wire.clock, factory=wire.factory).feed(b"GET / HTTP/1.0\r\n\r\n")
    globalLogPublisher.removeObserver(events.append)
    assert 0 < len(events) <= 10
    assert wire.server_transport.taken() == b""


def test_one_way_calls_are_carried_out_and_not_answered():
    """Ecosystem §1.4."""
    got = []
    wire = Wire(doors={"step": lambda body: (got.append(body), succeed(b""))[1]})
    assert wire.root.callRemote("step", b"x", pbanswer=False) is None
    wire.pump()
    assert got == [b"x"] and wire.client.waitingForAnswers == {} and wire.server.calls == 0


def test_calls_arrive_in_order_and_answers_leave_when_they_are_there():
    """Ecosystem §1.4."""
    waiting = {}

    def door(body):
        waiting[body] = Deferred()
        return waiting[body]

    wire, fired = Wire(doors={"ask": door}), []
    for name in (b"1", b"2", b"3"):
        wire.root.callRemote("ask", name).addCallback(lambda answer, asked: fired.append((asked, answer)), name)
    wire.pump()
    assert list(waiting) == [b"1", b"2", b"3"]
    for name in (b"3", b"1", b"2"):
        waiting[name].callback(name)
        wire.pump()
    assert fired == [(b"3", b"3"), (b"1", b"1"), (b"2", b"2")], "each call has its own answer"


def test_calls_beyond_the_limit_in_flight_are_overloaded_until_some_are_answered():
    """Hazards S5: bounded calls in flight, and the refusal is definite."""
    waiting = []

    def door(body):
        waiting.append(Deferred())
        return waiting[-1]

    wire = Wire(doors={"hang": door}, hospitality=limited(calls_max=2))
    first = [wire.call("hang"), wire.call("hang", b"1"), wire.call("hang", b"2")]
    (failure,) = wire.call("hang", b"3")
    assert type(failure.value) is Overloaded
    waiting[0].callback(b"")
    wire.pump()
    assert wire.call("hang", b"4") == []
    assert first[1] == [b""] and len(waiting) == 3


def test_bytes_of_requests_in_flight_are_bounded_too():
    """Hazards S5."""
    waiting = Deferred()
    doors = {"hang": lambda body: waiting, "echo": echo}
    wire = Wire(doors=doors, hospitality=limited(call_bytes_max=100_000))
    assert wire.call("hang", b"x" * 60_000) == []
    (failure,) = wire.call("echo", b"x" * 60_000)
    assert type(failure.value) is Overloaded
    waiting.callback(b"")
    assert wire.call("echo", b"x" * 60_000) == [b"x" * 60_000]


def test_a_cancelled_call_is_forgotten_and_its_late_answer_dropped():
    """Ecosystem §1.4: the stock table keeps the entry until the answer comes."""
    waiting = Deferred()
    wire, fired = Wire(doors={"hang": lambda body: waiting, "echo": echo}), []
    call = wire.root.callRemote("hang", b"")
    call.addErrback(lambda failure: fired.append(failure.type))
    wire.pump()
    call.cancel()
    assert fired == [CancelledError] and wire.client.waitingForAnswers == {}
    waiting.callback(b"late")
    wire.pump()
    assert wire.call("echo", b"x") == [b"x"]


def test_a_lost_connection_fails_every_call_also_when_one_of_them_cancels_another():
    """Ecosystem §1.4: what was asked may have happened."""
    wire, fired = Wire(doors={"hang": lambda body: Deferred()}), []
    calls = [wire.root.callRemote("hang", b"") for _ in range(3)]
    calls[0].addErrback(lambda failure: (fired.append(failure.type), calls[1].cancel()))
    for call in calls[1:]:
        call.addErrback(lambda failure: fired.append(failure.type))
    wire.pump()
    wire.client_transport.lose()
    assert fired == [LostAnswer, CancelledError, LostAnswer]


def test_an_answer_that_comes_when_the_caller_is_gone_is_dropped():
    waiting = Deferred()
    wire = Wire(doors={"hang": lambda body: waiting})
    wire.call("hang", b"")
    wire.server_transport.lose()
    waiting.callback(b"late")
    assert wire.server.calls == 0


@pytest.mark.parametrize(
    "said",
    [
        message(b"echo", [b"x"]),
        encoded([b"answer", 1, b"x"]),
        encoded([b"error", 99, b"x"]),
        encoded([b"answer", b"1", b"x"]),
    ],
)
def test_a_client_cuts_a_server_that_calls_it_or_answers_what_it_did_not_ask(said):
    wire = Wire(doors={"echo": echo})
    wire.client.dataReceived(said)
    assert wire.client_transport.aborted


def test_an_answer_that_is_not_plain_is_a_lost_answer():
    wire = Wire(doors={"hang": lambda body: Deferred()})
    fired = wire.call("hang", b"")
    wire.client.dataReceived(encoded([b"answer", 1, [b"set", 1]]))
    assert type(fired[0].value) is LostAnswer


def test_our_client_understands_the_errors_of_a_stock_server():
    """A wrong address may lead to some other Perspective Broker server."""

    class Other(pb.Root):
        def remote_raise(self):
            raise pb.Error("theirs")

    clock = Clock()
    server = pb.PBServerFactory(Other()).buildProtocol(None)
    client = GuardedBroker(True, clock, Complaints(clock), LIMITS)
    client.factory = pb.PBClientFactory()
    transports = [MemoryTransport(server), MemoryTransport(client)]
    transports[0].registerProducer = lambda producer, streaming: None
    server.makeConnection(transports[0])
    client.makeConnection(transports[1])
    fired = []
    for _ in range(6):
        client.dataReceived(transports[0].taken())
        server.dataReceived(transports[1].taken() or encoded([b"version", 6])[:0])
        if client.currentDialect and not fired:
            fired.append(None)
            client.remoteForName("root").callRemote("raise").addErrback(lambda failure: fired.append(failure.value))
    assert not fired[1].definite and "theirs" in fired[1].text


# ── the connection ─────────────────────────────────────────────────────────────────────────────────


def test_nodelay_and_keepalive_are_on():
    """Ecosystem fact 5: without NODELAY 40 ms are lost now and then."""
    switched = []
    clock = Clock()
    broker = GuardedBroker(True, clock, Complaints(clock), LIMITS)
    transport = MemoryTransport(broker)
    transport.setTcpNoDelay = lambda on: switched.append(("nodelay", on))
    transport.setTcpKeepAlive = lambda on: switched.append(("keepalive", on))
    broker.makeConnection(transport)
    assert switched == [("nodelay", True), ("keepalive", True)]


def test_close_writes_what_is_queued_and_takes_nothing_more():
    """House, shutdown: what was answered before is still written."""
    wire = Wire(plain={"get": lambda: b"x" * 100_000}, raw=True)
    for request in (1, 2, 3):
        wire.feed(message(b"get", [], request))
    assert wire.server.queued_bytes
    wire.server.close()
    wire.feed(message(b"get", [], 4))
    assert wire.server_transport.disconnecting and not wire.cut
    assert wire.server_transport.taken().count(b"x") == 300_000


def test_a_bug_in_the_broker_cuts_one_connection_and_is_logged(logged_errors, monkeypatch):
    """Nothing that a stranger sends may raise into the reactor."""
    wire = Wire(doors={"echo": echo}, raw=True)
    monkeypatch.setattr(wire.server, "expressionReceived", lambda expression: 1 / 0)
    wire.feed(message(b"echo", [b"x"]))
    assert wire.cut and len(logged_errors) == 1
    logged_errors.clear()


def test_answers_that_nobody_reads_are_bounded_for_all_connections_together():
    """S5, found by flooding: two hundred slow readers, each within its own limit, took 700 MB."""
    limits = Limits(unread_bytes_together=4 * MIB)
    first = Wire(plain={"get": lambda: b"x" * 500_000}, raw=True, hospitality=HOSPITALITY._replace(limits=limits))
    wires = [first, *[Wire(raw=True, factory=first.factory, clock=first.clock) for _ in range(9)]]
    idle = Wire(raw=True, factory=first.factory, clock=first.clock)
    for wire in wires:
        for request in (1, 2, 3):
            wire.feed(message(b"get", [], request))
    assert not idle.cut
    assert any(wire.cut for wire in wires) and not first.cut
    waiting = sum(wire.server.queued_bytes for wire in wires if not wire.cut)
    assert waiting <= limits.unread_bytes_together + MIB
    for wire in wires:
        while wire.server_transport.taken():
            pass
    again = Wire(raw=True, factory=first.factory, clock=first.clock)
    for request in (1, 2):
        again.feed(message(b"get", [], request))
    assert not again.cut, "what was read or cut counts no longer"
