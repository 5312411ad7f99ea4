"""Which values may cross the wire beside bytes, and their form there: jelly, cut down to what is harmless.

Allowed both ways: None, bool, int, float, bytes, str, list, tuple, dict. Everything else that stock jelly knows
(sets, decimals, dates, classes, functions, modules, methods, instances, copies, caches, references to remote
objects) is refused, whichever way it comes. Nothing here reads or writes Twisted's global registries, so what
other code of the process allows for its own Perspective Broker connections does not concern ours.

An object that stands twice in one message is sent by stock jelly as a reference and a dereference; that is read
as long as it makes no cycle and does not multiply the message (each use costs what the object cost).

Source: hazards S1; the form is twisted.spread.jelly's. What a value means is not known here.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.spread.jelly import SecurityOptions

from twisted_kv.constants import KIB
from twisted_kv.errors import BadRequest, ValueTooLarge, WrongType
from twisted_kv.transport.complaints import shown

STRING_BYTES_MAX: Final = 640 * KIB
"""Banana's own limit of one string; nobody can raise it for the stock client on the other side."""

DEPTH_MAX: Final = 12
VALUES_MAX: Final = 1 << 18
_INT_LIMIT: Final = 1 << 63
_KINDS: Final = "None, bool, int, float, bytes, str, list, tuple and dict"

PlainValue = Any
Jelly = Any


def to_jelly(value: PlainValue, depth: int = 0) -> Jelly:
    """The s-expression of a plain value.

    Raises:
        ValueTooLarge: a string beyond what Perspective Broker can carry.
        WrongType: anything that is not plain, nested too deep, or an integer beyond 64 bits. The types must be
            exact: a subclass of int or str would lose its class on the way.
    """
    kind = type(value)
    if kind is bytes:
        return _short(value)
    if kind is str:
        return [b"unicode", _short(_utf8(value))]
    if kind is int:
        if not -_INT_LIMIT <= value < 2 * _INT_LIMIT:
            raise WrongType("an integer beyond 64 bits cannot cross the wire")
        return value
    if kind is float:
        return value
    if value is None:
        return [b"None"]
    if kind is bool:
        return [b"boolean", b"true" if value else b"false"]
    if depth >= DEPTH_MAX:
        raise WrongType(f"values nested more than {DEPTH_MAX} deep cannot cross the wire")
    if kind is list or kind is tuple:
        return [b"list" if kind is list else b"tuple", *(to_jelly(part, depth + 1) for part in value)]
    if kind is dict:
        pairs = ([to_jelly(key, depth + 1), to_jelly(part, depth + 1)] for key, part in value.items())
        return [b"dictionary", *pairs]
    raise WrongType(f"a {shown(kind.__name__)} cannot cross the wire; plain values are {_KINDS}")


def from_jelly(jelly: Jelly) -> PlainValue:
    """The plain value of an s-expression that came from outside.

    Raises:
        WrongType: a tag that is not plain, or a form that no plain value has.
        BadRequest: shared references that would multiply the message.
    """
    try:
        return _Reading().value(jelly)
    except (LookupError, ValueError, TypeError, RecursionError):
        raise WrongType("the message does not have the form of a plain value") from None


class PlainOnly(SecurityOptions):
    """What a broker allows if any stock path should ever reach it: plain tags, no class, no module.

    Stock options let every name with a dot pass this first gate; these do not.
    """

    _tags = frozenset({b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary"})

    def isTypeAllowed(self, typeName: bytes | str) -> bool:
        return (typeName.encode() if isinstance(typeName, str) else typeName) in self._tags

    def isModuleAllowed(self, moduleName: object) -> bool:
        return False

    def isClassAllowed(self, klass: object) -> bool:
        return False


class _Reading:
    """One message on its way in: the objects it has named so far, and how many values it has made."""

    def __init__(self) -> None:
        self._made = 0
        self._named: dict[int, tuple[PlainValue, int]] = {}

    def value(self, jelly: Jelly) -> PlainValue:
        self._count(1)
        if type(jelly) is not list:
            return jelly
        tag = jelly[0]
        if tag == b"unicode":
            (text,) = jelly[1:]
            return str(text, "utf-8")
        if tag == b"list":
            return [self.value(part) for part in jelly[1:]]
        if tag == b"tuple":
            return tuple([self.value(part) for part in jelly[1:]])
        if tag == b"dictionary":
            return {self.value(key): self.value(part) for key, part in jelly[1:]}
        if tag == b"None":
            return None
        if tag == b"boolean":
            return {b"true": True, b"false": False}[jelly[1]]
        if tag == b"reference":
            return self._reference(*jelly[1:])
        if tag == b"dereference":
            return self._dereference(*jelly[1:])
        raise WrongType(f"a {shown(tag) if type(tag) is bytes else 'nameless value'} cannot cross the wire")

    def _reference(self, name: int, jelly: Jelly) -> PlainValue:
        before = self._made
        value = self.value(jelly)
        self._named[name] = (value, self._made - before)
        return value

    def _dereference(self, name: int) -> PlainValue:
        if name not in self._named:
            raise WrongType("a value that contains itself cannot cross the wire")
        value, weight = self._named[name]
        self._count(weight)
        return value

    def _count(self, values: int) -> None:
        self._made += values
        if self._made > VALUES_MAX:
            raise BadRequest("the message holds too many values")


def _short(string: bytes) -> bytes:
    if len(string) > STRING_BYTES_MAX:
        raise ValueTooLarge(f"{len(string)} bytes: one plain value carries at most {STRING_BYTES_MAX}; use a Clerk")
    return string


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise WrongType("text that is not valid Unicode cannot cross the wire") from None
