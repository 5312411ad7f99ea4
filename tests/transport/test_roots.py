"""What a connection can reach."""

import pytest
from pb_testing import Wire, echo
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from twisted_kv.constants import WIRE_PART_BYTES
from twisted_kv.errors import BadRequest
from twisted_kv.interfaces import NotSent
from twisted_kv.transport import chunks
from twisted_kv.transport.chunks import RESERVE_BYTES, Reserve
from twisted_kv.transport.listening import HOSPITALITY, DoorFactory
from twisted_kv.transport.roots import DoorRoot


def put(key, value="nothing"):
    return succeed([key, value])


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "",
        "__init__",
        "remoteMessageReceived",
        "connection_lost",
        "expire",
        "rootObject",
        "_transfers",
        "Echo",
        "echo\n",
    ],
)
def test_only_the_names_in_the_tables_can_be_called(name):
    """Hazards S7: never an attribute."""
    wire = Wire(doors={"echo": echo}, plain={"put": put})
    (failure,) = wire.call(name, b"x")
    assert type(failure.value) is BadRequest
    assert "\n" not in failure.value.text


def test_a_door_takes_one_body_of_bytes_and_nothing_else():
    """The body is a value only once its codec has said so; anything else never reaches a door."""
    entered = []
    wire = Wire(doors={"echo": lambda body: (entered.append(body), succeed(body))[1]})
    for args, kw in (
        ((), {}),
        (("x",), {}),
        ((1,), {}),
        ((b"x", b"y"), {}),
        ((b"x",), {"body": b"y"}),
        (([b"x"],), {}),
    ):
        (failure,) = wire.call("echo", *args, **kw)
        assert type(failure.value) is BadRequest
    assert entered == []
    assert wire.call("echo", b"x") == [b"x"]


def test_a_door_that_answers_something_else_is_a_bug(logged_errors):
    wire = Wire(doors={"bad": lambda body: succeed("text")})
    (failure,) = wire.call("bad", b"x")
    assert failure.value.described() == "OutcomeUnknown: internal error; unknown; final"
    assert len(logged_errors) == 1
    logged_errors.clear()


@pytest.mark.parametrize("stock", [False, True])
def test_plain_names_take_arguments_as_their_signature_says(stock):
    """Contract §4: positional or by keyword, as a script likes."""
    wire = Wire(plain={"put": put}, stock=stock)
    assert wire.call("put", "k", "v") == [["k", "v"]]
    assert wire.call("put", "k") == [["k", "nothing"]]
    assert wire.call("put", value=1, key=None) == [[None, 1]]


@pytest.mark.parametrize(("args", "kw"), [((), {}), ((1, 2, 3), {}), ((1,), {"key": 2}), ((1,), {"x\n" * 500: 2})])
def test_arguments_that_do_not_fit_are_a_bad_request_before_anything_is_called(args, kw):
    """Hazards S13: no traceback, and nothing of the caller's in full."""
    called = []
    wire = Wire(plain={"put": lambda key, value=0: called.append(key)})
    (failure,) = wire.call("put", *args, **kw)
    assert type(failure.value) is BadRequest and len(failure.value.text) < 300
    assert "\n" not in failure.value.text
    assert called == []


def test_a_type_error_inside_is_a_bug_and_not_the_callers_fault(logged_errors):
    wire = Wire(plain={"put": lambda: len(5)})
    (failure,) = wire.call("put")
    assert type(failure.value).__name__ == "OutcomeUnknown"
    logged_errors.clear()


def test_values_that_are_not_plain_are_refused_by_name():
    wire = Wire(plain={"put": put}, stock=True)
    (failure,) = wire.call("put", "k", {1, 2})
    assert failure.type == b"twisted_kv.errors.WrongType" and "set" in failure.value


def test_a_name_is_a_door_or_plain():
    """A programmer's error."""
    with pytest.raises(AssertionError):
        DoorRoot({"x": echo}, {"x": put}, Clock())


# ── large bodies ───────────────────────────────────────────────────────────────────────────────────


def upload(wire, number, body):
    count = chunks.part_count(len(body))
    for index in range(count):
        piece = body[index * WIRE_PART_BYTES : (index + 1) * WIRE_PART_BYTES]
        assert wire.call(chunks.PART, number, index, count, piece) == [None]


def test_a_large_request_enters_the_door_once_whole():
    """Scenario §3.6-50."""
    entered = []
    wire = Wire(doors={"write": lambda body: (entered.append(body), succeed(b"ok"))[1]})
    body = bytes(range(256)) * 4_096
    upload(wire, 1, body)
    assert entered == []
    assert wire.call(chunks.WHOLE, "write", 1) == [b"ok"]
    assert entered == [body]
    (failure,) = wire.call(chunks.WHOLE, "write", 1)
    assert failure.value.definite and len(entered) == 1


def test_an_unfinished_request_never_enters_a_door():
    entered = []
    wire = Wire(doors={"write": lambda body: (entered.append(body), succeed(b"ok"))[1]})
    wire.call(chunks.PART, 1, 0, 2, b"x")
    (failure,) = wire.call(chunks.WHOLE, "write", 1)
    assert type(failure.value) is BadRequest and entered == []


def test_a_large_answer_is_announced_and_fetched():
    answer = b"x" * (WIRE_PART_BYTES + 1)
    wire = Wire(doors={"read": lambda body: succeed(answer)})
    ((number, size),) = wire.call("read", b"")
    assert size == len(answer)
    assert [*wire.call(chunks.FETCH, number, 0), *wire.call(chunks.FETCH, number, 1)] == [answer[:-1], b"x"]


def test_an_answer_of_one_part_is_not_announced():
    answer = b"x" * WIRE_PART_BYTES
    wire = Wire(doors={"read": lambda body: succeed(answer)})
    assert wire.call("read", b"") == [answer]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (chunks.PART, (1, 0, 1)),
        (chunks.PART, (1, 0, 1, "x")),
        (chunks.PART, (True, 0, 1, b"x")),
        (chunks.WHOLE, (b"write", 1)),
        (chunks.WHOLE, ("write", "1")),
        (chunks.WHOLE, (chunks.WHOLE, 1)),
        (chunks.FETCH, (None, 0)),
        (chunks.FORGET, ()),
        (chunks.PING, (1,)),
    ],
)
def test_wrong_arguments_of_a_transfer_are_a_bad_request(name, args):
    wire = Wire(doors={"write": echo})
    wire.call(chunks.PART, 1, 0, 1, b"x")
    (failure,) = wire.call(name, *args)
    assert type(failure.value) is BadRequest


def test_an_upload_for_an_unknown_verb_is_forgotten():
    clock, reserve = Clock(), Reserve()
    factory = DoorFactory(DoorRoot({"write": echo}, {}, clock, reserve), clock, HOSPITALITY)
    wire = Wire(clock=clock, factory=factory)
    upload(wire, 1, b"x" * 100)
    (failure,) = wire.call(chunks.WHOLE, "nobody", 1)
    assert type(failure.value) is BadRequest and reserve.free == RESERVE_BYTES


def test_one_connection_cannot_see_the_transfers_of_another():
    clock = Clock()
    first = Wire(doors={"read": lambda body: succeed(b"x" * 2 * WIRE_PART_BYTES)}, clock=clock)
    second = Wire(clock=clock, factory=first.factory)
    ((number, _),) = first.call("read", b"")
    (failure,) = second.call(chunks.FETCH, number, 0)
    assert type(failure.value) is BadRequest


def test_memory_of_transfers_comes_back_when_the_door_is_done_fails_or_the_connection_goes(logged_errors):
    """Hazards S5: the reserve is one for all connections, and nothing may leak from it."""
    clock, reserve, waiting = Clock(), Reserve(), Deferred()
    doors = {
        "echo": echo,
        "hang": lambda body: waiting,
        "raise": lambda body: 1 / 0,
        "read": lambda body: succeed(b"x" * 2 * WIRE_PART_BYTES),
    }
    factory = DoorFactory(DoorRoot(doors, {}, clock, reserve), clock, HOSPITALITY)
    wire = Wire(clock=clock, factory=factory)
    for number, verb in enumerate(("echo", "raise", "hang")):
        upload(wire, number, b"x" * 1_000)
        wire.call(chunks.WHOLE, verb, number)
    logged_errors.clear()
    assert reserve.free == RESERVE_BYTES - 1_000
    upload(wire, 9, b"x" * 1_000)
    wire.call("read", b"")
    wire.call("read", b"")
    wire.root.callRemote(chunks.FORGET, 1, pbanswer=False)
    wire.root.callRemote(chunks.CANCEL, 9, pbanswer=False)
    wire.pump()
    upload(wire, 10, b"x" * 500)
    assert reserve.free == RESERVE_BYTES - 1_500 - 2 * WIRE_PART_BYTES
    wire.server_transport.lose()
    assert reserve.free == RESERVE_BYTES - 1_000
    waiting.callback(b"late and large" * WIRE_PART_BYTES)
    assert reserve.free == RESERVE_BYTES


def test_ping_is_answered():
    assert Wire().call(chunks.PING) == [None]
    wire = Wire()
    wire.client_transport.lose()
    assert type(wire.call(chunks.PING)[0].value) is NotSent
