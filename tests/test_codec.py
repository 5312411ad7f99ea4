"""The codec: what was sealed comes back, and nothing else is taken for it."""

import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.codec import FORMAT_VERSION, Codec, Malformed


class Apple(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    weight: int
    name: str = ""


class Pear(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    parts: tuple[Any, ...]


FRUIT: Codec[Apple | Pear] = Codec(Apple | Pear)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(), st.binary())
FRUITS = st.one_of(
    st.builds(Apple, st.integers(-(2**63), 2**63 - 1), st.text()),
    st.builds(Pear, st.lists(VALUES, max_size=5).map(tuple)),
)


@given(FRUITS)
def test_values_round_trip(fruit: Apple | Pear) -> None:
    copy = FRUIT.decode(FRUIT.encode(fruit))
    assert copy == fruit
    if isinstance(fruit, Pear) and isinstance(copy, Pear):
        assert [type(part) for part in copy.parts] == [type(part) for part in fruit.parts], "str and bytes stay apart"


@given(FRUITS)
def test_the_same_value_has_the_same_bytes(fruit: Apple | Pear) -> None:
    """Digests and logs of replicas are compared by bytes."""
    assert FRUIT.encode(fruit) == FRUIT.encode(FRUIT.decode(FRUIT.encode(fruit)))


@given(FRUITS, st.data())
def test_any_damaged_byte_is_noticed(fruit: Apple | Pear, data: st.DataObject) -> None:
    sealed = FRUIT.encode(fruit)
    place = data.draw(st.integers(0, len(sealed) - 1))
    damaged = bytearray(sealed)
    damaged[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Malformed):
        FRUIT.decode(bytes(damaged))


@given(FRUITS, st.data())
def test_cut_short_is_noticed(fruit: Apple | Pear, data: st.DataObject) -> None:
    sealed = FRUIT.encode(fruit)
    with pytest.raises(Malformed):
        FRUIT.decode(sealed[: data.draw(st.integers(0, len(sealed) - 1))])


@given(FRUITS, st.binary(min_size=1, max_size=8))
def test_a_tail_is_noticed(fruit: Apple | Pear, tail: bytes) -> None:
    with pytest.raises(Malformed):
        FRUIT.decode(FRUIT.encode(fruit) + tail)


@given(st.binary(max_size=64))
@settings(max_examples=200)
def test_noise_is_malformed(noise: bytes) -> None:
    with pytest.raises(Malformed):
        FRUIT.decode(noise)


def sealed_anew(packed: bytes, version: int = FORMAT_VERSION) -> bytes:
    return bytes([version]) + zlib.crc32(packed).to_bytes(4, "big") + packed


def test_the_format_is_written_down() -> None:
    """Version, CRC-32 big endian, MessagePack: what a file of today holds must be readable tomorrow."""
    packed = b"\x93\xa1a\x03\xa1x"
    assert FRUIT.encode(Apple(3, "x")) == sealed_anew(packed) == b"\x01\x0f\x69\x29\xf1" + packed


def test_another_version_is_refused_before_decoding() -> None:
    sealed = sealed_anew(b"\xc1", FORMAT_VERSION + 1)
    with pytest.raises(Malformed, match="format version 2, this is 1"):
        FRUIT.decode(sealed)


@pytest.mark.parametrize(
    "packed",
    [
        msgspec.msgpack.encode(["z", 1]),
        msgspec.msgpack.encode(["a", "one"]),
        msgspec.msgpack.encode(["a"]),
        msgspec.msgpack.encode(7),
        b"\xc1",
        b"\x93\xa1a\x03\xa1\xff",
        b"\x92\xa1p" + b"\x91" * 100_000 + b"\xc0",
    ],
    ids=["unknown tag", "wrong type", "missing field", "no struct", "no msgpack", "no utf-8", "too deep"],
)
def test_another_shape_is_malformed(packed: bytes) -> None:
    """The checksum is right, the content is not: a peer of another version, or a malicious one."""
    with pytest.raises(Malformed):
        FRUIT.decode(sealed_anew(packed))


def test_too_long_is_refused_before_anything_else() -> None:
    small: Codec[bytes] = Codec(bytes, bytes_max=16)
    fits = small.encode(b"x" * 9)
    assert len(fits) == 16 and small.decode(fits) == b"x" * 9
    with pytest.raises(Malformed, match="17 bytes, more than 16"):
        small.decode(b"\xff" * 17)


@pytest.mark.parametrize("value", ["text", None, 7, bytearray(b"\x01"), [b"x"]])
def test_only_bytes_are_sealed(value: Any) -> None:
    with pytest.raises(Malformed):
        FRUIT.decode(value)


def test_text_that_is_not_unicode_cannot_be_sealed() -> None:
    """A lone surrogate, as from a file name of the command line."""
    with pytest.raises(Malformed):
        FRUIT.encode(Apple(1, "\udc80"))
