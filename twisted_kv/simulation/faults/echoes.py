"""Echoes: commands of the past are put to the present leader once more, any time later, and sometimes misquoted.

It decides which commands a system that promises to bear repeats must bear, and lets them come in bursts, above all when
a step of a moving shard is under way. A leader that was deposed and leads again, a successor that has not applied its
log yet, a network that delivers late: each logs again what was decided long ago (hazard 43).

Logged again as they were, whether or not they were ever applied, since each names the copy or number it means and is
harmless when repeated (machines/commands): Configure, Install, Freeze, Dropped of a group; Found of the controllers.
Sent again to the door that they came by: Drop, Open, Enroll and Claim likewise; Write and Administer only if they were
applied and the answer was for good. One that was turned away, or was lost with its leader, was perhaps reported as not
done, and then nobody may ever send it again (hazard 40).

*Misquoted* are commands that must then be refused, or change nothing: a Write or Administer that was done, with another
request under its number (hazard 42); a Claim that was granted, by somebody else, and a Found with another id (the first
one stays, hazard 37); a Configure of another cluster's controllers, or with another content under a number that the
group knows (hazard 46).

It knows no cluster: whoever makes it takes what is to be said to the leader of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, Final

import msgspec

from twisted_kv.consensus.types import Ready, Ticket
from twisted_kv.interfaces import IConsensus
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    Administer,
    Claim,
    Configure,
    Configured,
    Done,
    Drop,
    Dropped,
    Enroll,
    Expired,
    Found,
    Freeze,
    Install,
    Leave,
    Open,
    Refused,
    Write,
)
from twisted_kv.machines.configuration import successor
from twisted_kv.simulation.doors.world import World, one_of, weighted
from twisted_kv.transport.wire import CTL_CHANGE, CTL_CLAIM, CTL_ENROLL, KV_OPEN, KV_WRITE, SHARD_DROP

_CONTROLLERS: Final = 0
_KEPT: Final = 60
"""Commands of each kind and group that are remembered."""
_BURST: Final = (1, 2, 4)
_FOLLOWS: Final = 0.6
"""So many proposals of a chore are followed by echoes, while they sound."""
_FOLLOWS_SECONDS: Final = (0.0, 0.0, 0.004, 0.05)

_CHORES: Final[Mapping[type, float]] = {Configure: 2.0, Install: 3.0, Freeze: 2.0, Dropped: 2.0, Drop: 3.0, Found: 0.2}
"""What leaders propose because of their state → how often it is chosen."""
_CALLS: Final[Mapping[type, float]] = {Write: 4.0, Open: 1.0, Administer: 3.0, Enroll: 0.5, Claim: 1.0}
"""What somebody has asked for, likewise."""
_DOORS: Final[Mapping[type, str]] = {
    Write: KV_WRITE,
    Open: KV_OPEN,
    Drop: SHARD_DROP,
    Administer: CTL_CHANGE,
    Enroll: CTL_ENROLL,
    Claim: CTL_CLAIM,
}
"""Kind of a command → the verb by which it comes from outside; the others are proposed by the leader itself."""


class Echoes:
    """What the groups of a cluster have said, and its coming back.

    Args:
        say: (gid, verb, command) takes a command to the leader of a group: through the door of the verb, or, if that is
            "", as the leader's own.
    """

    def __init__(self, world: World, say: Callable[[int, str, bytes], None]) -> None:
        self._world = world
        self._random: Random = world.random_for("echoes")
        self._say = say
        self._past: dict[int, dict[type, dict[bytes, Any]]] = {}
        self._standing: dict[int, Configure] = {}
        self._echoed: set[bytes] = set()
        self._misquoted: set[bytes] = set()
        self._until = 0.0

    # ── what was said ──────────────────────────────────────────────────────────────────────────────

    def proposed(self, gid: int, command: bytes) -> None:
        """A leader puts a command into its log."""
        if command in self._echoed or command in self._misquoted:
            return
        value = _codec(gid).decode(command)
        if type(value) in _CHORES:
            self._remember(gid, command, value)
            if self._world.clock.seconds() < self._until and self._random.random() < _FOLLOWS:
                seconds = one_of(self._random, _FOLLOWS_SECONDS)
                self._world.clock.callLater(seconds, self._burst, gid, getattr(value, "shard", None))

    def applied(self, gid: int, command: bytes, reply: Any) -> None:
        """A machine stands behind a command."""
        if command in self._echoed:
            self._world.reach("echo applied")
        elif command in self._misquoted:
            if isinstance(reply, Refused):
                self._world.reach("misquote refused")
        else:
            value = _codec(gid).decode(command)
            if type(value) in _CALLS and _for_good(value, reply):
                self._remember(gid, command, value)
            if isinstance(value, Configure) and reply == Done(True):
                self._standing[gid] = value

    def _remember(self, gid: int, command: bytes, value: Any) -> None:
        kept = self._past.setdefault(gid, {}).setdefault(type(value), {})
        kept[command] = value
        if len(kept) > _KEPT:
            del kept[next(iter(kept))]

    # ── what comes back ────────────────────────────────────────────────────────────────────────────

    def sound(self, seconds: float) -> None:
        """In every group something comes back now, and again after many a chore for so long."""
        self._until = self._world.clock.seconds() + seconds
        for gid in sorted(self._past):
            self._burst(gid, None)

    def hush(self) -> None:
        """Nothing comes back any more."""
        self._until = 0.0

    def misquote(self) -> None:
        """In every group something is said that was said otherwise."""
        for gid in sorted(self._past):
            wrong = [misquoted for misquoted in self._misquotes(gid) if misquoted is not None]
            if wrong:
                value = one_of(self._random, wrong)
                command = _codec(gid).encode(value)
                self._misquoted.add(command)
                self._tell(gid, "is misquoted", value, command)

    def _burst(self, gid: int, shard: int | None) -> None:
        for _ in range(one_of(self._random, _BURST)):
            past = {kind: said for kind, said in self._past.get(gid, {}).items() if said}
            weights = {kind: weight for kind, weight in {**_CHORES, **_CALLS}.items() if kind in past}
            if not weights:
                return
            said = past[weighted(self._random, weights)]
            alike = [command for command, value in said.items() if getattr(value, "shard", shard) == shard]
            command = one_of(self._random, alike if alike and shard is not None else list(said))
            self._echoed.add(command)
            self._tell(gid, "comes back", said[command], command)

    def _tell(self, gid: int, what: str, value: Any, command: bytes) -> None:
        self._world.trace.tell("echoes", what, gid=gid, kind=type(value).__name__)
        self._say(gid, _DOORS.get(type(value), ""), command)

    def _misquotes(self, gid: int) -> Iterator[Any]:
        """One of each kind, as far as there is one."""
        past = self._past[gid]
        for kind, misquoted in _MISQUOTES.items():
            said = list(past.get(kind, {}).values())
            if said:
                yield misquoted(one_of(self._random, said), self._random)
        if gid in self._standing:
            yield _another_configuration(self._standing[gid], self._random)


def _codec(gid: int) -> Any:
    return GROUP_COMMANDS if gid != _CONTROLLERS else CONTROLLER_COMMANDS


def _for_good(value: Any, reply: Any) -> bool:
    """Whether nobody can have been told that a command was not done and may still be."""
    match value:
        case Write():
            return all(_is_final(outcome) for outcome in reply)
        case Administer():
            return isinstance(reply, Configured) or _is_final(reply)
        case Claim():
            return isinstance(reply, Done)
    return True


def _is_final(outcome: Any) -> bool:
    """Not so WrongGroup, and refusals that servers do not keep."""
    return isinstance(outcome, Done | Expired) or (
        isinstance(outcome, Refused) and outcome.error not in ("Overloaded", "Unavailable")
    )


# ── misquotes ──────────────────────────────────────────────────────────────────────────────────────


def _another_write(value: Write, random: Random) -> Write | None:
    """Other values under the same numbers."""
    operations = [
        msgspec.structs.replace(operation, value=operation.value + "?")
        for operation in value.operations
        if isinstance(operation.value, str)
    ]
    return Write(tuple(operations)) if len(operations) == len(value.operations) else None


def _another_change(value: Administer, random: Random) -> Administer | None:
    other = Leave((1 + int(random.random() * 1000),))
    return None if value.change == other else msgspec.structs.replace(value, change=other)


def _another_claim(value: Claim, random: Random) -> Claim:
    return msgspec.structs.replace(value, identity=f"not {value.identity}")


def _another_cluster(value: Found, random: Random) -> Found:
    return msgspec.structs.replace(value, cluster=f"not {value.cluster}")


def _another_configuration(value: Configure, random: Random) -> Configure | None:
    """The next one of another cluster, or the one that the group is at with other owners."""
    known = value.configuration
    others = known.shards[1:] + known.shards[:1]
    if not known.members or 0 in others or others == known.shards:
        return None
    following = successor(known, known.members, others)
    if random.random() < 0.5:
        return Configure(f"not {value.cluster}", following, value.mine)
    return msgspec.structs.replace(value, configuration=msgspec.structs.replace(following, num=known.num))


_MISQUOTES: Final[Mapping[type, Callable[[Any, Random], Any]]] = {
    Write: _another_write,
    Administer: _another_change,
    Claim: _another_claim,
    Found: _another_cluster,
}


# ── where commands pass ────────────────────────────────────────────────────────────────────────────


class HeardCore:
    """An IConsensus of which is told what is proposed to it."""

    def __init__(self, core: IConsensus, proposed: Callable[[bytes], None]) -> None:
        self._core = core
        self._proposed = proposed
        self.tick = core.tick
        self.step = core.step
        self.read = core.read
        self.compact = core.compact
        self.status = core.status

    def propose(self, command: bytes) -> Ticket:
        ticket: Ticket = self._core.propose(command)
        self._proposed(command)
        return ticket

    def ready(self) -> Ready | None:
        return self._core.ready()

    def advance(self, ready: Ready) -> None:
        self._core.advance(ready)


class HeardMachine:
    """A machine of which is told what it applies; all else is the machine's own."""

    def __init__(self, machine: Any, applied: Callable[[bytes, Any], None]) -> None:
        self._machine = machine
        self._applied = applied

    def apply(self, index: int, command: bytes) -> Any:
        reply = self._machine.apply(index, command)
        self._applied(command, reply)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)
