"""An object of a core as a hashable value, and back: how an explorer remembers a core without keeping it.

``freeze`` walks whatever it is given, so nothing that a core remembers is forgotten by oversight: what does not enter
the value as it is stands in a ``Neutral`` table. ``renamed`` exchanges the names of nodes and commands in such a value;
which fields hold nodes it is told. It knows no core, and refuses what it cannot take apart.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any

import msgspec

Neutral = Mapping[type, Mapping[str, Callable[[Any], Any]] | Callable[[Any], Any]]
"""Classes, or fields of classes, of which not the content itself is frozen but what this makes of it."""

_ATOMS = frozenset({int, bytes, str, bool, type(None), frozenset, type})


class Latest(Random):
    """Chance that always draws the largest number, so that a core's timers run as long as they may."""

    def random(self) -> float:
        return 1 - 2**-53

    def getrandbits(self, bits: int, /) -> int:
        return (1 << bits) - 1


LATEST = Latest()


def freeze(value: Any, neutral: Neutral) -> Any:
    """The value as nested tuples: ``(class, content…)`` for what can change, the thing itself for what cannot.

    Raises:
        TypeError: of something that cannot be taken apart.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    left_out = neutral.get(kind, {})
    if callable(left_out):
        return left_out(value)
    if kind is list or kind is deque:
        return (kind, tuple([freeze(item, neutral) for item in value]))
    if kind is tuple:
        items = tuple([freeze(item, neutral) for item in value])
        return value if items == value else (tuple, items)
    if kind is dict:
        return (dict, tuple([(key, freeze(value[key], neutral)) for key in sorted(value)]))
    if kind is set:
        return (set, frozenset(value))
    if _is_immutable(kind):  # type: ignore[arg-type]
        return value
    content = []
    for name in fields_of(kind, value):
        held = getattr(value, name)
        content.append(freeze(left_out[name](held) if name in left_out else held, neutral))
    return (kind, tuple(content))


def thaw(frozen: Any) -> Any:
    """The object that was frozen, anew; changing it does not change what it came from."""
    if type(frozen) is not tuple or len(frozen) != 2 or not isinstance(frozen[0], type):
        return frozen
    kind, content = frozen
    if kind is list or kind is deque or kind is tuple:
        return kind([thaw(item) for item in content])
    if kind is dict:
        return {key: thaw(item) for key, item in content}
    if kind is set:
        return set(content)
    made = kind.__new__(kind)
    for name, item in zip(fields_of(kind), content, strict=True):
        setattr(made, name, thaw(item))
    return made


def renamed(
    value: Any,
    nodes: Mapping[int, int],
    commands: Mapping[bytes, bytes],
    node_fields: frozenset[str],
    names: bool = False,
) -> Any:
    """The frozen value with nodes and commands exchanged.

    Args:
        nodes, commands: what each is called then; others keep their names.
        node_fields: names of the fields that hold nodes: one, several, or as keys.
    """
    structs: dict[int, Any] = {}

    def walk(value: Any, names: bool) -> Any:
        kind = type(value)
        if kind is int:
            return nodes.get(value, value) if names else value
        if kind is bytes:
            return commands.get(value, value)
        if kind is tuple:
            if len(value) == 2 and isinstance(value[0], type):
                return (value[0], content(value[0], value[1], names))
            items = [walk(item, names) for item in value]
            return tuple(sorted(items) if names else items)
        if kind is frozenset:
            return frozenset([walk(item, names) for item in value])
        if isinstance(value, tuple):
            return kind(*[walk(item, name in node_fields) for name, item in value._asdict().items()])  # type: ignore
        if isinstance(value, msgspec.Struct):
            # One object stays one object: a core may ask whether the Ready that it gets back is the one it gave.
            other = structs.get(id(value))
            if other is None:
                said = [walk(getattr(value, name), name in node_fields) for name in value.__struct_fields__]
                other = structs[id(value)] = kind(*said)
            return other
        return value

    def content(kind: type, held: Any, names: bool) -> Any:
        if kind is dict:
            return tuple(sorted([(walk(key, names), walk(item, False)) for key, item in held], key=_key_of))
        if kind is list or kind is deque or kind is tuple:
            return tuple([walk(item, names) for item in held])
        if kind is set:
            return walk(held, names)
        return tuple([walk(item, name in node_fields) for name, item in zip(fields_of(kind), held, strict=True)])

    return walk(value, False)


@cache
def _is_immutable(kind: type) -> bool:
    if issubclass(kind, (enum.Enum, Random)):
        return True
    return issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen


_FIELDS: dict[type, tuple[str, ...]] = {}


def fields_of(kind: type, example: Any = None) -> tuple[str, ...]:
    """The names of what an object of this class holds, in a fixed order.

    Raises:
        TypeError: it is none of ours, or this example holds more than the first that was seen.
    """
    known = _FIELDS.get(kind)
    if known is None:
        if kind.__module__ == "builtins":
            raise TypeError(f"a {kind.__name__} cannot be taken apart")
        slots = [slot for base in kind.__mro__ for slot in base.__dict__.get("__slots__", ())]
        known = _FIELDS[kind] = tuple(sorted({*slots, *getattr(example, "__dict__", ())}))
    if not set(getattr(example, "__dict__", ())) <= set(known):
        raise TypeError(f"{kind.__name__} objects differ in what they hold")
    return known


def _key_of(item: tuple[Any, Any]) -> Any:
    return item[0]
