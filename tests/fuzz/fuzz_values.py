"""What the generators draw from: hostile numbers and texts, values of any msgspec type, and broken bytes.

Chance comes from one random.Random, so an input is named by its seed. Knows no target.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from twisted_kv.codec import FORMAT_VERSION

T = TypeVar("T")

SMALL = (0, 1, 1, 1, 2, 2, 3, 4, 5, 7, 100, 101)
EXTREME = (-1, -2, -(1 << 31), -(1 << 63), 1 << 31, 1 << 32, (1 << 53) + 1, 1 << 62, (1 << 62) + 1, (1 << 63) - 1)
BEYOND_SQLITE = (1 << 63, (1 << 64) - 1)
TEXTS = ("a", "b", "k", "key", "{t}a", "{t}b", "{}", "}{", "", "\x00", "é", "\u2028", "𝄞" * 5, "a" * 4096, "é" * 4097)
PIECES = (b"", b"\x00", b"\xff", b"\x80", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x7f" * 9)


def one_of(random: Random, choices: Sequence[T]) -> T:
    """One of them; the same on every Python."""
    return choices[int(random.random() * len(choices))]


def weighted(random: Random, choices: Sequence[tuple[float, T]]) -> T:
    """One of them, as likely as its weight says."""
    drawn = random.random() * sum(weight for weight, _ in choices)
    for weight, choice in choices:
        drawn -= weight
        if drawn < 0:
            return choice
    return choices[-1][1]


def up_to(random: Random, most: int) -> int:
    """A number from 0 to ``most``, small ones more often."""
    return int((most + 1) * random.random() ** 3)


def seal(packed: bytes) -> bytes:
    """The envelope of codec.py around any bytes."""
    return b"%c%b%b" % (FORMAT_VERSION, zlib.crc32(packed).to_bytes(4, "big"), packed)


class Values:
    """Draws values of types.

    Args:
        hints: numbers and texts that mean something where the values go; drawn most of the time.
        lawful: only what the type allows and any decoder has to give back; no hostile sizes.
    """

    def __init__(
        self, random: Random, ints: Sequence[int] = (), texts: Sequence[str] = (), lawful: bool = False
    ) -> None:
        self.random = random
        self._ints = tuple(ints)
        self._texts = tuple(texts)
        self._lawful = lawful
        self._draws: dict[type, Callable[[Any, int], Any]] = {
            inspect.IntType: self._int,
            inspect.StrType: lambda kind, depth: self.text(),
            inspect.BytesType: lambda kind, depth: self.octets(),
            inspect.BoolType: lambda kind, depth: random.random() < 0.5,
            inspect.FloatType: lambda kind, depth: one_of(random, (0.0, -1.0, 1e308, 0.1)),
            inspect.NoneType: lambda kind, depth: None,
            inspect.AnyType: lambda kind, depth: self.anything(),
            inspect.LiteralType: lambda kind, depth: one_of(random, kind.values),
            inspect.EnumType: lambda kind, depth: one_of(random, list(kind.cls)),
            inspect.UnionType: lambda kind, depth: self._drawn(one_of(random, kind.types), depth),
            inspect.StructType: self._struct,
            inspect.VarTupleType: lambda kind, depth: tuple(self._several(kind.item_type, depth)),
            inspect.ListType: lambda kind, depth: self._several(kind.item_type, depth),
            inspect.TupleType: lambda kind, depth: tuple([self._drawn(item, depth) for item in kind.item_types]),
            inspect.DictType: lambda kind, depth: {
                self._drawn(kind.key_type, depth): self._drawn(kind.value_type, depth) for _ in range(up_to(random, 3))
            },
        }

    def of(self, shape: Any) -> Any:
        """A value of a type, structs and unions of them included; never checked, so numbers may be out of range."""
        return self._drawn(_inspected(shape), 0)

    def of_kind(self, kind: Any) -> Any:
        """A value of a type as msgspec.inspect tells it."""
        return self._drawn(kind, 0)

    def number(self) -> int:
        draw = self.random.random()
        if draw < 0.5 and self._ints:
            return one_of(self.random, self._ints)
        if draw < 0.85:
            return one_of(self.random, SMALL)
        return one_of(self.random, EXTREME if draw < 0.97 else BEYOND_SQLITE)

    def text(self) -> str:
        if self._texts and self.random.random() < 0.5:
            return one_of(self.random, self._texts)
        return one_of(self.random, TEXTS)

    def octets(self) -> bytes:
        return self.random.randbytes(one_of(self.random, (0, 1, 4, 15, 16, 16, 17, 32, 300)))

    def anything(self, depth: int = 0) -> Any:
        """What may stand in a place of no type; mostly what should."""
        draw = self.random.random()
        if draw < 0.45:
            return self.text()
        if draw < 0.75:
            return self.octets()
        if draw < 0.8 or depth > 3 or self._lawful:
            return one_of(self.random, (None, True, False, self.number(), 1.5))
        if draw < 0.9:
            return [self.anything(depth + 1) for _ in range(up_to(self.random, 4))]
        return {self.text(): self.anything(depth + 1) for _ in range(up_to(self.random, 3))}

    def _drawn(self, kind: Any, depth: int) -> Any:
        return self._draws[type(kind)](kind, depth)

    def _int(self, kind: Any, depth: int) -> int:
        number = self.number()
        if self._lawful:
            number = max(number, kind.ge if kind.ge is not None else number)
            number = min(number, kind.le if kind.le is not None else number)
        return number

    def _struct(self, kind: Any, depth: int) -> Any:
        return kind.cls(*[self._drawn(field.type, depth + 1) for field in kind.fields])

    def _several(self, kind: Any, depth: int) -> list[Any]:
        return [self._drawn(kind, depth) for _ in range(up_to(self.random, 5 if depth < 3 else 1))]


_inspected = cache(inspect.type_info)


def broken(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The bytes with something wrong: flipped, cut, doubled, spliced, overwritten."""
    broken_bytes = bytearray(data)
    for _ in range(1 + up_to(random, 3)):
        at = int(random.random() * (len(broken_bytes) + 1))
        draw = random.random()
        if draw < 0.4 and broken_bytes:
            broken_bytes[at % len(broken_bytes)] ^= 1 << int(random.random() * 8)
        elif draw < 0.55:
            del broken_bytes[at:]
        elif draw < 0.65:
            broken_bytes[at:at] = random.randbytes(1 + up_to(random, 8))
        elif draw < 0.75:
            broken_bytes[at:at] = one_of(random, PIECES)
        elif draw < 0.85:
            del broken_bytes[at : at + 1 + up_to(random, 8)]
        elif draw < 0.92 or not others:
            broken_bytes[at:at] = broken_bytes[at // 2 : at]
        else:
            other = one_of(random, others)
            broken_bytes[at:] = other[int(random.random() * (len(other) + 1)) :]
    return bytes(broken_bytes)


def misplaced(random: Random, packed: bytes) -> bytes:
    """MessagePack with one value in it replaced by one of any other kind."""
    values = Values(random)

    def walk(value: Any, left: list[int]) -> Any:
        left[0] -= 1
        if left[0] == 0:
            return one_of(random, (None, -1, 1 << 63, "", b"", [], [[]], {}, {"a": 1}, 1.5, values.anything()))
        return [walk(part, left) for part in value] if isinstance(value, list) else value

    tree = msgspec.msgpack.decode(packed)
    return msgspec.msgpack.encode(walk(tree, [1 + int(random.random() * _count(tree))]))


def _count(tree: Any) -> int:
    return 1 + sum(map(_count, tree)) if isinstance(tree, list) else 1


def bomb(random: Random) -> bytes:
    """MessagePack that costs far more than its size if it is looked into: deep, wide, colliding, or only declared."""
    size = 1 << (8 + int(random.random() * 8))
    draw = random.random()
    if draw < 0.2:
        return b"\x91" * size + b"\xc0"
    if draw < 0.4:
        return b"\xdd" + (4 * size).to_bytes(4, "big") + one_of(random, (b"\x80", b"\x90", b"\xc0")) * 4 * size
    if draw < 0.5:
        return one_of(random, (b"\xdd", b"\xdf", b"\xc6", b"\xdb")) + b"\x7f\xff\xff\xff" + b"\xc0" * 64
    return collision(size.bit_length() - 1)


def collision(bits: int) -> bytes:
    """A map of 2 ** bits keys of one hash: tuples of -1 and -2, since those two numbers have one."""
    size = 1 << bits
    keys = [bytes([0xDC, 0, bits, *(0xFF - (number >> bit & 1) for bit in range(bits))]) for number in range(size)]
    return b"\xdf" + size.to_bytes(4, "big") + b"".join(key + b"\xc0" for key in keys)
