"""The operations on keys: what each verb does to one value, what it answers, and what is refused at the door.

Every verb is a pure function of the value as it stood, the argument and the limit, so all replicas that apply
the same operation to the same value agree. Source: contract §3 (put, append, delete, put_hash) and §6 (limits).
Refuses to know sessions, shards and who asks.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Final

from twisted_kv.constants import KEY_BYTES_MAX
from twisted_kv.machines.commands import Done, Operation, Outcome, Refused
from twisted_kv.machines.rows import Value

Result = tuple[Value | None, Outcome]
"""The value afterwards (None: absent), and the outcome; a refusal hands the old value back, the same object."""

_DONE: Final = Done()
_WAS_THERE: Final = Done(True)
_WAS_ABSENT: Final = Done(False)
_NUMBER_MAX: Final = 2**63 - 1


def put(old: Value | None, argument: Value | None, value_bytes_max: int) -> Result:
    """Replace the value."""
    return argument, _DONE


def append(old: Value | None, argument: Value | None, value_bytes_max: int) -> Result:
    """Add to the end; on an absent key the same as put (scenarios S2).

    Refused with WrongType when text meets bytes, with ValueTooLarge when the result passes the limit.

    >>> append("a", "b", 10)
    ('ab', Done(value=None))
    """
    if old is None:
        return argument, _DONE
    if type(old) is not type(argument):
        return old, Refused("WrongType", f"cannot append {_kind(argument)} to {_kind(old)}")
    joined: Value = old + argument  # type: ignore[operator]  # two texts, or two bytes
    size = size_of(joined)
    if size > value_bytes_max:
        return old, Refused("ValueTooLarge", f"the value would have {size} bytes, the limit is {value_bytes_max}")
    return joined, _DONE


def delete(old: Value | None, argument: Value | None, value_bytes_max: int) -> Result:
    """Remove the key; answers whether it was there."""
    return None, _WAS_ABSENT if old is None else _WAS_THERE


def put_hash(old: Value | None, argument: Value | None, value_bytes_max: int) -> Result:
    """Store the decimal FNV-1a of old and argument as text; answers the old value, "" when absent."""
    return str(fnv1a(_octets(argument), fnv1a(_octets(old)))), Done("" if old is None else old)


OPERATIONS: Final[Mapping[str, Callable[[Value | None, Value | None, int], Result]]] = {
    "p": put,
    "a": append,
    "d": delete,
    "h": put_hash,
}
"""verb → what it does to the value as it stands (None: absent), with an argument that has passed ``check_write`` and
the limit of the cluster, in bytes of UTF-8."""


def fnv1a(octets: bytes, state: int = 0x811C9DC5) -> int:
    """The unsigned 32-bit FNV-1a hash; ``state`` is the hash of what stands before these octets.

    Source: draft-eastlake-fnv, http://www.isthe.com/chongo/tech/comp/fnv.

    >>> hex(fnv1a(b"foobar"))
    '0xbf9cf968'
    >>> fnv1a(b"bar", fnv1a(b"foo")) == fnv1a(b"foobar")
    True
    """
    for octet in octets:
        state = (state ^ octet) * 0x01000193 & 0xFFFFFFFF
    return state


def digest_of(operation: Operation) -> int:
    """32 bits by which a reused sequence number with another payload is told from a retry (hazard 42)."""
    value = operation.value
    # What is mixed in between keeps ("ab", "c") apart from ("a", "bc"), and text from bytes.
    before = zlib.crc32(operation.key.encode()) ^ _DIGEST_MARKS[operation.verb]
    if isinstance(value, str):
        return zlib.crc32(value.encode(), before)
    return before if value is None else zlib.crc32(value, before ^ 0x5BD1E995)


_DIGEST_MARKS: Final = {verb: zlib.crc32(verb.encode()) for verb in OPERATIONS}


def size_of(value: Value) -> int:
    """Bytes of a value, text counted as UTF-8.

    >>> size_of("é"), size_of(b"ab")
    (2, 2)
    """
    # isascii is a flag of the string object, so ordinary text is not encoded to be measured.
    if isinstance(value, str) and not value.isascii():
        return len(value.encode())
    return len(value)


def check_operation(operation: Operation, value_bytes_max: int) -> Refused | None:
    """What is wrong with an operation before it enters a log; None: nothing.

    The types of its fields are not trusted: it may come from a peer of another make.
    """
    return check_write(operation.verb, operation.key, operation.value, value_bytes_max) or _check_numbers(operation)


def check_write(verb: str, key: object, value: object, value_bytes_max: int) -> Refused | None:
    """What is wrong with a write that has no session yet; None: nothing."""
    if verb not in OPERATIONS:
        return Refused("BadRequest", "the verb is none of p, a, d, h")
    return check_key(key) or _check_value(verb, value, value_bytes_max)


def check_key(key: object) -> Refused | None:
    """KeyTooLong unless it is 1 … KEY_BYTES_MAX bytes of UTF-8; WrongType if it is no text at all."""
    if not isinstance(key, str):
        return Refused("WrongType", f"a key is text, not {_kind(key)}")
    try:
        size = size_of(key)
    except UnicodeEncodeError:
        return Refused("WrongType", "the key holds a lone surrogate, which is no text")
    if not 1 <= size <= KEY_BYTES_MAX:
        return Refused("KeyTooLong", f"the key has {size} bytes; 1 to {KEY_BYTES_MAX} are allowed")
    return None


def _check_value(verb: str, value: object, value_bytes_max: int) -> Refused | None:
    if verb == "d":
        return None if value is None else Refused("WrongType", "a delete takes no value")
    if not isinstance(value, str | bytes):
        return Refused("WrongType", f"a value is text or bytes, not {_kind(value)}")
    try:
        size = size_of(value)
    except UnicodeEncodeError:
        return Refused("WrongType", "the value holds a lone surrogate, which is no text; send it as bytes")
    if size > value_bytes_max:
        return Refused("ValueTooLarge", f"the value has {size} bytes, the limit is {value_bytes_max}")
    return None


def _check_numbers(operation: Operation) -> Refused | None:
    session, sequence, floor = operation.session, operation.sequence, operation.floor
    if not type(session) is type(sequence) is type(floor) is int:
        return Refused("BadRequest", "session, sequence and floor are integers")
    if not (0 <= session <= _NUMBER_MAX and 1 <= floor <= sequence <= _NUMBER_MAX):
        return Refused("BadRequest", "a sequence is at least 1 and not below its floor")
    return None


def _octets(value: Value | None) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else value.encode()


def _kind(value: object) -> str:
    return {str: "text", bytes: "bytes", type(None): "nothing"}.get(type(value), type(value).__name__)
