"""What may cross beside bytes."""

import contextlib
import datetime
import decimal
import enum
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.spread.jelly import globalSecurity, jelly, unjelly

from twisted_kv.errors import BadRequest, KVError, ValueTooLarge, WrongType
from twisted_kv.transport.plain import DEPTH_MAX, STRING_BYTES_MAX, VALUES_MAX, PlainOnly, from_jelly, to_jelly

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
keys = st.text(max_size=3) | st.integers(-5, 5)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
def test_plain_values_survive_in_our_form_and_in_the_stock_one(value):
    """Ecosystem §1.2: a stock client reads what we write, and we read what it writes."""
    assert from_jelly(to_jelly(value)) == value
    assert unjelly(to_jelly(value), globalSecurity) == value
    assert from_jelly(jelly(value, globalSecurity)) == value


class Number(int):
    pass


class Color(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        {1},
        frozenset(),
        decimal.Decimal(1),
        datetime.date(2026, 1, 1),
        Number(1),
        Color.RED,
        bytearray(b"x"),
        memoryview(b"x"),
        object(),
        len,
        ValueError(),
        "\ud800",
        2**64,
        -(2**63) - 1,
        {"a": [{1}]},
    ],
)
def test_what_is_not_plain_is_refused_on_the_way_out(value):
    """Ecosystem §1.2: stock jelly would make them Unpersistable, silently; here they are a clear error."""
    with pytest.raises(WrongType):
        to_jelly(value)


def test_a_coroutine_is_refused_on_the_way_out():
    """Ecosystem §1.2: ``async def`` behind a remote name only appears to succeed with stock PB."""

    async def answer():
        return 1

    coroutine = answer()
    with pytest.raises(WrongType):
        to_jelly(coroutine)
    coroutine.close()


def test_a_value_that_contains_itself_or_nests_too_deep_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(WrongType):
        to_jelly(endless)
    nested = []
    for _ in range(DEPTH_MAX):
        nested = [nested]
    with pytest.raises(WrongType):
        to_jelly(nested)


@pytest.mark.parametrize("make", [lambda size: b"x" * size, lambda size: "x" * size, lambda size: ["é" * (size // 2)]])
def test_a_string_may_have_640_kib_and_not_one_byte_more(make):
    """Contract §4: PB cannot carry a longer string."""
    to_jelly(make(STRING_BYTES_MAX))
    with pytest.raises(ValueTooLarge):
        to_jelly(make(STRING_BYTES_MAX + 2))


@pytest.mark.parametrize(
    "tag",
    [
        b"set",
        b"frozenset",
        b"decimal",
        b"datetime",
        b"date",
        b"time",
        b"timedelta",
        b"class",
        b"function",
        b"module",
        b"method",
        b"instance",
        b"persistent",
        b"unpersistable",
        b"remote",
        b"local",
        b"copy",
        b"cache",
        b"cached",
        b"lcache",
        b"twisted.spread.pb.CopyableFailure",
        b"twisted.spread.pb.RemoteReference",
        b"builtins.str",
        b"os.system",
    ],
)
def test_every_other_jelly_tag_is_refused(tag):
    """Hazards S1: neither through our reading, nor through a stock path that asks our SecurityOptions."""
    with pytest.raises(WrongType):
        from_jelly([b"list", [tag, b"os", [b"dictionary"]]])
    assert not PlainOnly().isTypeAllowed(tag)
    assert not PlainOnly().isClassAllowed(str)
    assert not PlainOnly().isModuleAllowed("os")


@pytest.mark.parametrize(
    "malformed",
    [
        [],
        [b"unicode"],
        [b"unicode", b"\xff"],
        [b"unicode", 5],
        [b"boolean", b"maybe"],
        [b"boolean"],
        [b"dictionary", b"x"],
        [b"dictionary", [1]],
        [b"dictionary", [[b"list"], 1]],
        [[b"list"], 1],
        [5],
        [b"reference", 1],
        [b"dereference", []],
    ],
)
def test_malformed_jelly_is_refused_and_nothing_else_is_raised(malformed):
    """Hazards §3-8: no uncaught exception from anything that comes in."""
    with pytest.raises(WrongType):
        from_jelly(malformed)


jelly_like = st.recursive(
    st.sampled_from([b"list", b"tuple", b"dictionary", b"unicode", b"reference", b"dereference", b"None", b"x"])
    | st.integers(-3, 3)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=20,
)


@given(jelly_like)
def test_anything_banana_can_carry_is_a_plain_value_or_a_kv_error(expression):
    with contextlib.suppress(KVError):
        from_jelly(expression)


def test_an_object_used_twice_is_read_but_a_cycle_is_refused():
    """A script may write ``join({1: servers, 2: servers})``; stock jelly sends the list once and a reference."""
    servers = ["tcp:a:1", "tcp:b:2"]
    sent = jelly({1: servers, 2: servers}, globalSecurity)
    assert b"dereference" in str(sent).encode()
    assert from_jelly(sent) == {1: servers, 2: servers}
    with pytest.raises(WrongType):
        from_jelly([b"reference", 1, [b"list", [b"dereference", 1]]])


def test_references_cannot_multiply_a_message():
    """Hazards S3: a few hundred bytes must not become a billion values for whoever walks over them."""
    laughs = [b"reference", 0, [b"list", *[1] * 10]]
    for level in range(1, 12):
        laughs = [b"list", laughs] if level == 1 else laughs
        laughs = [b"reference", level, [b"list", laughs, *[[b"dereference", level - 1]] * 9]]
    with pytest.raises(BadRequest):
        from_jelly(laughs)
    assert VALUES_MAX < 1_000_000


def test_importing_the_transport_leaves_twisteds_globals_alone():
    """Hazards S1: what others in the process allow for their own PB connections stays theirs."""
    program = """
import copy
from twisted.spread import banana, jelly, pb
before = (copy.deepcopy(jelly.globalSecurity.__dict__), dict(jelly.unjellyableRegistry),
          dict(jelly.unjellyableFactoryRegistry), banana._PREFIX_LIMIT, banana.SIZE_LIMIT, pb.Broker.knownDialects)
import twisted_kv.transport.network
after = (jelly.globalSecurity.__dict__, jelly.unjellyableRegistry,
         jelly.unjellyableFactoryRegistry, banana._PREFIX_LIMIT, banana.SIZE_LIMIT, pb.Broker.knownDialects)
assert before == after, (before, after)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
