"""Target "codec": every Codec of the package, found by looking through its modules.

Judged: decode raises nothing but Malformed, in bounded time and memory; what decodes is encoded and decoded to the
same again; a sound value comes back as it was. The codecs of DOORS decode what anybody can send: they are also given
bombs. The others read what members of one group, or this very directory, have written.
"""

from __future__ import annotations

import importlib
import pkgutil
from random import Random
from typing import Any

import msgspec
from fuzz_servers import Finding
from fuzz_targets import Target, Verdict
from fuzz_values import Values, bomb, broken, misplaced, one_of, seal

import twisted_kv
from twisted_kv.codec import Codec, Malformed
from twisted_kv.machines.configuration import Configuration

DOORS = frozenset(
    {"WRITES", "OPENS", "DROPS", "READS", "SCANS", "QUERIES", "PULLS", "ENROLLS", "CHANGES", "CLAIMS", "ENROLL"}
    | {"ADMINISTER", "WHO_REQUEST", "IAM", "HELLO", "ROWS_REQUEST", "STEP", "MESSAGES", "CONTROLLER_COMMANDS"}
)
ROOMS = ("twisted_kv.machines", "twisted_kv.transport", "twisted_kv.consensus", "twisted_kv.storage")
SHAPES: dict[str, tuple[Codec[Any], Any]] = {}


def codecs() -> dict[str, Codec[Any]]:
    """Name → codec, of all that stand in a module of the rooms that have any."""
    found: dict[str, Codec[Any]] = {}
    for each in pkgutil.walk_packages(twisted_kv.__path__, "twisted_kv."):
        if each.name.startswith(ROOMS):
            for name, value in vars(importlib.import_module(each.name)).items():
                if isinstance(value, Codec) and value not in found.values():
                    found[name if name not in found else f"{each.name}.{name}"] = value
    return found


class Codecs(Target):
    """Sealed bytes against the decoders."""

    name = "codec"
    share = 0.25
    life = 20_000

    def __init__(self, seed: int, life: int = 0) -> None:
        self.codecs = codecs()
        self._names = sorted(self.codecs)
        self._shapes = {name: shape_of(codec) for name, codec in self.codecs.items()}
        self._values: Values | None = None
        self._known: list[bytes] = []

    def draw(self, random: Random) -> list[Any]:
        """Name, bytes, and whether these are a sound value that has to come back."""
        if self._values is None:
            self._values, self._sound = Values(random), Values(random, lawful=True)
        name = one_of(random, self._names)
        draw = random.random()
        if draw < 0.05:
            return [name, random.randbytes(int(random.random() * 60)), False]
        values = self._sound if draw > 0.75 else self._values
        body = self.codecs[name].encode(values.of(self._shapes[name]))
        if draw > 0.75:
            return [name, body, name != "WRITES" and len(body) <= self.codecs[name]._bytes_max]
        if draw < 0.2:
            body = broken(random, body, self._known)
        elif draw < 0.4:
            body = seal(broken(random, body[5:], self._known))
        elif draw < 0.6:
            body = seal(misplaced(random, body[5:]))
        elif draw < 0.602 and name in DOORS:
            body = seal(with_a_bomb(name, bomb(random)))
        if len(self._known) < 200:
            self._known.append(body[5:])
        return [one_of(random, self._names) if draw > 0.7 else name, body, False]

    def feed(self, given: list[Any]) -> Verdict:
        name, sealed, sound = given
        codec = self.codecs[name]
        framed = len(sealed) > 5 and seal(sealed[5:]) == sealed
        try:
            value = codec.decode(sealed)
        except Malformed as error:
            if sound:
                raise Finding(f"{name} refuses what it has encoded: {error}") from None
            return Verdict(framed, _reason(str(error)))
        again = codec.encode(value)
        if not _same(codec.decode(again), value):
            raise Finding(f"{name}: {value!r} became {codec.decode(again)!r}")
        if sound and again != sealed:
            raise Finding(f"{name}: {value!r} has other bytes now")
        return Verdict(framed, "decoded")


def shape_of(codec: Codec[Any]) -> Any:
    """The type that a codec decodes."""
    return codec._decode.__self__.type  # type: ignore[attr-defined]


def with_a_bomb(name: str, explosive: bytes) -> bytes:
    """A command, or what begins like one, with a bomb in the place of a value."""
    if name == "WRITES":
        return b"\x92\xa1w\x91\x96\xa1p\xa1k" + explosive + b"\x01\x01\x01"
    return b"\x95\xa1" + b"orsqACFE"[len(explosive) % 8 :][:1] + explosive + b"\x01\x01\x01"


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types; a number that is none equals itself here."""
    if type(one) is not type(other):
        return False
    if isinstance(one, msgspec.Struct) and not isinstance(one, Configuration):
        return all(_same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or one != one


def _reason(text: str) -> str:
    words = text.split(" - at")[0].split()
    return " ".join("…" if any(map(str.isdigit, word)) or word[:1] in "`'" else word for word in words)[:60]
