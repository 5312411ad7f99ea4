"""Sees rare events happen, each at the one place that proves it, and counts them in the world (simulation/doors/rare).

It looks at what passes the wrappers of ``moments`` and at the state of cores, and changes nothing. What a group did is
seen at the first of its replicas that applied it. It judges nothing; what must hold is in ``invariants``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    GROUP_COMMANDS,
    Administer,
    Configure,
    Configured,
    Done,
    Drop,
    Expired,
    Install,
    PullAnswer,
    PullRows,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, shard_of
from twisted_kv.simulation.doors.disk import method_of
from twisted_kv.simulation.doors.world import World
from twisted_kv.transport.wire import ROWS_ANSWER

Place = tuple[int, int]
"""Index of an entry, and position of a command in it."""


class Sights:
    """What was seen of a whole cluster, over all boots of its members. Groups go by the key under which the cluster
    lists them, 0 the controllers.

    Attributes:
        moment: called with the name of a moment (simulation/faults/moments) and of the member that has come to it.
    """

    def __init__(self, world: World) -> None:
        self.reach = world.reach
        self.moment: Callable[[str, str], None] = _nobody_listens
        self.leading: dict[int, dict[str, int]] = {}
        self.abandoned: set[tuple[int, int, int]] = set()
        self._machines: dict[int, _GroupSights | _ControllerSights] = {}
        self._written: dict[tuple[int, int, int], int] = {}
        self._moving: dict[int, int] = {}
        self._pulls: dict[tuple[int, int, int], str] = {}
        self._applied: dict[str, int] = {}
        self._ahead: set[str] = set()
        self._betrayed: set[str] = set()

    # ── members ────────────────────────────────────────────────────────────────────────────────────

    def died(self, gid: int, name: str) -> None:
        """A member is gone, with what it believed."""
        self.leading.get(gid, {}).pop(name, None)

    def forgotten(self, name: str) -> None:
        """Its disk is gone too."""
        self._ahead.discard(name)
        self._betrayed.discard(name)
        self._applied.pop(name, None)

    def restored(self, name: str) -> None:
        """A member has opened its directory and read its log."""
        if name in self._ahead:
            self._ahead.discard(name)
            self.reach("rows without their log")
        if name in self._betrayed:
            self._betrayed.discard(name)
            self.reach("failed save came back")

    def rows_came(self, answer: bytes, term: int) -> None:
        """A peer has answered with rows to a member that has heard of this term and no later one."""
        if ROWS_ANSWER.decode(answer).term > term:
            self.reach("snapshot of a later term")

    def rows_replaced(self, name: str, pieces: int) -> None:
        """A peer's rows are committed; its log is not reset yet."""
        self._ahead.add(name)
        if pieces > 1:
            self.reach("snapshot in several chunks")

    def log_was_reset(self, name: str) -> None:
        """The log begins behind the rows now."""
        self._ahead.discard(name)

    def refused(self, work: Callable[[], Any]) -> None:
        """A full disk refused a piece of work."""
        match method_of(work):
            case "save":
                self.reach("save refused by a full disk")
            case "checkpoint" | "write" | "drop" | "commit":
                self.reach("checkpoint refused by a full disk")

    def betrayed(self, name: str, work: Callable[[], Any]) -> None:
        """A disk carried out a piece of work and said that it had failed."""
        if method_of(work) == "save":
            self._betrayed.add(name)

    # ── leaders ────────────────────────────────────────────────────────────────────────────────────

    def led(self, gid: int, term: int, name: str) -> None:
        """A member begins to lead."""
        leading = self.leading.setdefault(gid, {})
        if any(other != name and older < term for other, older in leading.items()):
            self.reach("two leaders at once")
        leading[name] = term
        if gid == 0 and any(self._moving.values()):
            self.reach("controllers elect in mid-move")

    def pulled(self, gid: int, command: bytes, name: str) -> None:
        """A leader proposes a chunk of a shard."""
        install = GROUP_COMMANDS.decode(command)
        assert isinstance(install, Install)
        began = self._pulls.setdefault((gid, install.shard, install.num), name)
        if install.chunk and began != name:
            self.reach("pull resumed by a new leader")

    def gave(self, query: PullRows, answer: PullAnswer) -> None:
        """Somebody has read rows of a copy for its taker."""
        if answer.state == "ahead":
            self.reach("copied while served")
        if not query.cursor.walked and query.cursor.since > answer.cursor.since:
            self.reach("walk goes on further back")

    # ── machines ───────────────────────────────────────────────────────────────────────────────────

    def applied(self, gid: int, place: Place, machine: Any, command: bytes, reply: Any, name: str) -> None:
        """A machine has applied a command."""
        highest = self._applied.get(name, 0)
        if place[0] < highest:
            self.reach("tail replayed")
        else:
            self._applied[name] = place[0]
        seen = self._machines.get(gid)
        if seen is None:
            seen = self._machines[gid] = _GroupSights(self, gid) if gid else _ControllerSights(self)
        if place > seen.place:
            seen.place = place
            seen.applied(machine, command, reply)

    def written(self, shard: int, session: int, sequence: int, gid: int) -> None:
        """A group says of a write that it is done."""
        first = self._written.setdefault((shard, session, sequence), gid)
        if first != gid:
            self.reach("repeat suppressed elsewhere")

    def was_written(self, shard: int, session: int, sequence: int) -> bool:
        return (shard, session, sequence) in self._written

    def moves(self, gid: int, count: int) -> None:
        """So many migrations of a group are under way."""
        self._moving[gid] = count


class _GroupSights:
    """What is seen of a group's machine, at whichever replica applies first."""

    def __init__(self, sights: Sights, gid: int) -> None:
        self._sights = sights
        self._gid = gid
        self._parked: frozenset[int] = frozenset()
        self._dropped: set[tuple[int, int]] = set()
        self._endpoints: Mapping[tuple[int, int], tuple[str, ...]] = {}
        self.place: Place = (0, 0)

    def applied(self, machine: Any, command: bytes, reply: Any) -> None:
        value = GROUP_COMMANDS.decode(command)
        match value:
            case Write():
                self._wrote(value, reply, len(machine.configuration.shards))
                return
            case Configure() if isinstance(reply, Done):
                if not value.mine and value.configuration.member(abs(self._gid)) is not None:
                    self._sights.reach("another group of the gid")
                self._configured(machine, value.configuration, reply)
            case Install():
                if reply.value is False:
                    self._sights.reach("install repeated")
                elif any(row.value is None for row in value.rows):
                    self._sights.reach("deletion crossed with its shard")
            case Drop():
                if reply.value is True:
                    if (value.shard, value.num) in self._dropped:
                        self._sights.reach("drop repeated")
                    self._dropped.add((value.shard, value.num))
        self._sights.moves(self._gid, machine.status()["migrations"])

    def _wrote(self, write: Write, outcomes: Any, shards: int) -> None:
        sights = self._sights
        for operation, outcome in zip(write.operations, outcomes, strict=True):
            if isinstance(outcome, WrongGroup):
                sights.reach("not served when applied")
            elif isinstance(outcome, Expired):
                sights.reach("session expired")
            elif isinstance(outcome, Done):
                shard = shard_of(operation.key, shards)
                if sights.was_written(shard, operation.session, operation.sequence):
                    sights.reach("repeat suppressed")
                sights.written(shard, operation.session, operation.sequence, self._gid)

    def _configured(self, machine: Any, configuration: Configuration, reply: Done) -> None:
        reach = self._sights.reach
        if reply.value is False:
            reach("configuration repeated")
            return
        if not configuration.members:
            reach("all groups left")
        endpoints = {(member.gid, member.joined): member.endpoints for member in configuration.members}
        if any(self._endpoints.get(member, there) != there for member, there in endpoints.items()):
            reach("group readdressed")
        self._endpoints = endpoints
        lines = machine.shards_status()
        phases: dict[str, set[int]] = {}
        for line in lines:
            phases.setdefault(line["phase"], set()).add(line["shard"])
        givers = {line["source"][0] for line in lines if line["phase"] == "pulling"}
        takers = {line["taker"][0] for line in lines if line["phase"] in ("handing", "leaving")}
        if givers & takers:
            reach("both directions at once")
        if phases.get("pulling", set()) & phases.get("leaving", set()):
            reach("shard back before it was dropped")
        if self._parked & phases.get("serving", set()):
            reach("parked shard regained")
        if self._parked & phases.get("leaving", set()):
            reach("parked shard handed on")
        self._parked = frozenset(phases.get("parked", ()))


class _ControllerSights:
    """What is seen of the controllers' machine, at whichever replica applies first."""

    def __init__(self, sights: Sights) -> None:
        self._sights = sights
        self._changes: set[tuple[int, int]] = set()
        self.place: Place = (0, 0)

    def applied(self, machine: Any, command: bytes, reply: Any) -> None:
        value = CONTROLLER_COMMANDS.decode(command)
        if isinstance(value, Administer) and isinstance(reply, Configured):
            if (value.session, value.sequence) in self._changes:
                self._sights.reach("change repeated")
            self._changes.add((value.session, value.sequence))


def _nobody_listens(moment: str, member: str) -> None:
    """Nothing happens."""
