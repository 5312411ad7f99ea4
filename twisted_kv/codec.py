"""Frozen values to bytes and back: one codec for the wire, the log and the rows.

A sealed body is ``version (1 byte) · CRC-32 of the rest (4 bytes, big endian) · MessagePack``.
Nothing is decoded before its length, its version and its checksum were looked at, and a
value of another shape than the asked type is refused. No pickling anywhere.

This module knows neither the values nor who reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

FORMAT_VERSION: Final = 1
_HEADER_BYTES: Final = 5

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


class Malformed(ValueError):
    """Bytes that are not a value of the asked type; the text says what is wrong with them."""


class Codec(Generic[T]):
    """Encodes and decodes values of one type, usually a union of tagged Structs.

    Args:
        shape: the type (or union of tagged ``msgspec.Struct`` types) that decode returns.
        bytes_max: sealed bodies beyond this size are refused before decoding.
        look: is shown the MessagePack before it is decoded, and raises Malformed at what must not be.

    >>> Codec(tuple[int, str]).decode(Codec(tuple[int, str]).encode((1, "a")))
    (1, 'a')
    """

    def __init__(
        self, shape: Any, bytes_max: int = 1 << 26, look: Callable[[memoryview], None] = lambda packed: None
    ) -> None:
        self._decode = msgspec.msgpack.Decoder(shape).decode
        self._bytes_max = bytes_max
        self._look = look

    def encode(self, value: T) -> bytes:
        """The sealed bytes of a value.

        Raises:
            Malformed: the value holds text that is not valid Unicode.
        """
        try:
            packed = _encode(value)
        except UnicodeEncodeError as error:
            raise Malformed(f"text that is not valid Unicode: {error.reason}") from None
        return b"%c%b%b" % (FORMAT_VERSION, zlib.crc32(packed).to_bytes(4, "big"), packed)

    def decode(self, sealed: bytes) -> T:
        """The value of sealed bytes.

        Raises:
            Malformed: too long, cut short, of another version, damaged, or of another shape.
        """
        if not isinstance(sealed, bytes):
            raise Malformed(f"bytes were expected, not {type(sealed).__name__}")
        if len(sealed) > self._bytes_max:
            raise Malformed(f"{len(sealed)} bytes, more than {self._bytes_max}")
        if len(sealed) <= _HEADER_BYTES:
            raise Malformed(f"{len(sealed)} bytes are too few")
        if sealed[0] != FORMAT_VERSION:
            raise Malformed(f"format version {sealed[0]}, this is {FORMAT_VERSION}")
        packed = memoryview(sealed)[_HEADER_BYTES:]
        if zlib.crc32(packed) != int.from_bytes(sealed[1:_HEADER_BYTES], "big"):
            raise Malformed("the checksum does not match")
        try:
            self._look(packed)
            value: T = self._decode(packed)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(str(error)) from None
        return value
