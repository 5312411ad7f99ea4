"""A small group: its members, the network between them, those who use it, and one turn after the other.

It decides in which order the things of a turn happen: ticks, calls, the work of disks, messages. How fast and how
sound all of it is, others set (``perils``). Every core is watched by the judges and the sights of the whole
simulation, and by the promises of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.consensus.types import CopySeen, Restored
from twisted_kv.constants import TICK_SECONDS
from twisted_kv.interfaces import IConsensus
from twisted_kv.simulation.doors.world import World, chance, one_of, shuffled
from twisted_kv.simulation.explorer.cores import CORES
from twisted_kv.simulation.explorer.node import View
from twisted_kv.simulation.faults.moments import SeenCore, SeenLog
from twisted_kv.simulation.judges.checkers import Violation
from twisted_kv.simulation.judges.invariants import Watch, WatchedCore, WatchedLog
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.simulation.small.mail import Mail
from twisted_kv.simulation.small.member import ILog, Killed, Member, MemoryLog, Rows
from twisted_kv.simulation.small.promises import Promises

GID: Final = 1
COPY_SEEN_TURNS: Final = 4
"""A copy shows itself so often."""


class Setting(msgspec.Struct, frozen=True):
    """What a seed draws besides what goes wrong.

    Attributes:
        size: members.
        settings: of every core.
        eager: share of the arrivals after which the receiver acts at once, and not at the end of the turn.
        lag: logs are cut behind the checkpoint before the newest.
        turns: that the life suffers until the faults stop, each time.
        endings: how they stop, one time after the other.
    """

    size: int
    settings: RaftSettings
    eager: float
    lag: bool
    turns: int
    endings: tuple[str, ...]


class Load(msgspec.Struct):
    """What users do in a turn.

    Attributes:
        commands, reads: how many for each member that believes to lead.
    """

    commands: float = 1.0
    reads: float = 0.5


class SmallGroup:
    """Members 1 … n (member.Group).

    Attributes:
        turn: how many have passed.
        load: what users do.
        saves: turns that a save takes, one is drawn; ``saves_of``: of single members.
        fetches: turns that rows take to come; ``fetch_loss``: share of them that never come.
        ambush: moment → share of those who come to it that die there.
        reports: share of the cut links of which the sender is told.
        elections: turn at which each term was first led.
    """

    def __init__(self, world: World, setting: Setting, made: Callable[..., IConsensus] = RaftNode) -> None:
        self.world = world
        self.setting = setting
        self.random = world.random_for("group")
        self._timers = world.random_for("timers")
        self._made = made
        self.watch = Watch()
        self.watch.now = world.clock.seconds
        self.watch.elected = self._elected
        self.watch.noticed = lambda violation: world.trace.tell("judge", str(violation)[:200])
        self.sights = Sights(world)
        self.sights.moment = self._moment
        self.mail = Mail(world.random_for("mail"), lambda: world.reach("message out of limbo"))
        self.voters = frozenset(range(1, setting.size + 1))
        election = setting.settings.election_ticks
        self.judge = Promises(self.watch.found, self._look, self.voters, election)
        self.members = [Member(self, number, election) for number in sorted(self.voters)]
        self.judge.members = self.members
        self.turn = 0
        self.elections: list[int] = []
        self.deaths = 0
        self._token = 0
        self._copies: set[int] = set()
        self._cores: dict[int, IConsensus] = {}
        self._reboots: dict[int, int] = {}
        self._sound()

    def _sound(self) -> None:
        self.load = Load()
        self.saves: Sequence[int] = (0,)
        self.saves_of: dict[int, Sequence[int]] = {}
        self.fetches: Sequence[int] = (0, 1)
        self.fetch_loss = 0.0
        self.ambush: Mapping[str, float] = {}
        self.reboot_turns: Sequence[int] = (1,)

    def calm(self) -> None:
        """Nothing goes wrong from now on, by itself."""
        self._sound()
        self.mail.calm()
        for member in self.members:
            member.pace, member.full, member.held = 1.0, False, False

    # ── what members share ─────────────────────────────────────────────────────────────────────────

    def boot(self, member: Member, restored: Restored, applied: int) -> IConsensus:
        settings = self.setting.settings
        core = self._made(member.node, self.voters, restored, self._timers, applied=applied, settings=settings)
        self._cores[member.number] = core
        watched = WatchedCore(core, self.watch, GID, member.name, applied)  # type: ignore[arg-type]
        return SeenCore(watched, core, self.sights, GID, member.name)  # type: ignore[arg-type]

    def _look(self, member: Member) -> View:
        return CORES["raft"].look(self._cores[member.number])

    def log_of(self, member: Member, disk: MemoryLog) -> ILog:
        watched = WatchedLog(disk, self.watch, member.name)
        return SeenLog(watched, self.sights, GID, member.node, member.name)

    def post(self, message: Any) -> None:
        self.mail.post(message)

    def save_turns(self, member: Member) -> int:
        return one_of(self.random, self.saves_of.get(member.number, self.saves))

    def fetch_turns(self, member: Member) -> int:
        return one_of(self.random, self.fetches)

    def rows_of(self, member: Member, peer: int) -> Rows | None:
        giver = self.members[abs(peer) - 1]
        link = (giver.number, member.number)
        lost = chance(self.random, self.fetch_loss)
        return None if lost or not giver.up or giver.held or link in self.mail.cut else giver.rows

    def moment(self, member: Member, name: str) -> None:
        self._moment(name, member.name)

    def _moment(self, name: str, whose: str) -> None:
        share = self.ambush.get(name)
        member = self.members[int(whose.rpartition("-")[2]) - 1]
        if share and member.up and chance(self.random, share):
            self.world.reach("killed at a moment")
            raise Killed(f"{whose} {name}")

    def _elected(self) -> None:
        self.elections.append(self.turn)

    # ── one turn ───────────────────────────────────────────────────────────────────────────────────

    def pass_turn(self) -> None:
        """Time passes by a turn, and what is due happens."""
        self.turn += 1
        self.mail.turn = self.turn
        self.world.clock.pass_until(self.turn * TICK_SECONDS)
        self._boot_due()
        for member in shuffled(self.random, self.members):
            if member.up and not member.held:
                for _ in range(member.elapse()):
                    self._do(member, self._tick)
                self._do(member, self._use)
                self._do(member, self._work)
        self._show_copies()
        self._deliver()

    def kill(self, member: Member, durable: bool) -> None:
        """Its process ends; it is booted after a while."""
        if member.up:
            self.deaths += 1
            self.world.trace.tell(member.name, "dies", term=member.status.term, durable=durable)
            member.die(durable)
            self.sights.died(GID, member.name)
            if not any(other.up for other in self.members):
                self.world.reach("whole group down")
            self._reboots[member.number] = self.turn + one_of(self.random, self.reboot_turns)

    def wipe(self, member: Member) -> None:
        """Its process ends, its disk is lost, and it comes back as a copy."""
        self.kill(member, False)
        self.judge.wiped(member)
        self.watch.forgotten(member.name)
        self.sights.forgotten(member.name)
        member.wipe()
        self._copies.add(member.number)
        self.world.trace.tell(member.name, "is wiped")

    def keep_down(self, numbers: Sequence[int]) -> None:
        """These do not come back before they are let."""
        for number in numbers:
            self._reboots.pop(number, None)

    def boot_all(self, but: Sequence[int] = ()) -> None:
        """Whoever is down boots in the next turn."""
        for member in self.members:
            if not member.up and member.number not in but:
                self._reboots[member.number] = self.turn

    @property
    def wiped(self) -> Sequence[int]:
        """Who lost its disk."""
        return sorted(self._copies)

    @property
    def may_wipe(self) -> bool:
        """Whether a majority would keep their disks."""
        return len(self._copies) < (len(self.members) - 1) // 2

    @property
    def leaders(self) -> list[Member]:
        """Those who believe to lead, the newest term first."""
        return sorted([member for member in self.members if member.leads], key=lambda member: -member.status.term)

    def _boot_due(self) -> None:
        for member in self.members:
            if self._reboots.get(member.number, self.turn + 1) <= self.turn:
                del self._reboots[member.number]
                self.world.trace.tell(member.name, "boots", node=member.node)
                member.boot()
                self._do(member, self._pump)

    def _do(self, member: Member, work: Callable[[Member], None]) -> None:
        """What may end in its death."""
        if not member.up:
            return
        try:
            work(member)
        except Killed as killed:
            self.world.trace.tell(member.name, f"is ambushed: {killed}")
            self.kill(member, chance(self.random, 0.3))

    def _tick(self, member: Member) -> None:
        member.tick()
        self.judge.ticked(member)

    def _use(self, member: Member) -> None:
        if member.leads:
            for _ in range(self._count(self.load.commands)):
                self._token += 1
                member.propose(b"%d" % self._token)
            for _ in range(self._count(self.load.reads)):
                self.ask(member)

    def ask(self, member: Member) -> None:
        """Somebody reads there."""
        self._token += 1
        member.read(self._token)

    def pump(self, member: Member) -> None:
        """It does what it can do now, which may be its end."""
        self._do(member, self._pump)

    def _work(self, member: Member) -> None:
        member.work(self.turn)
        member.pump(self.turn)

    def _pump(self, member: Member) -> None:
        member.pump(self.turn)

    def _show_copies(self) -> None:
        if self.turn % COPY_SEEN_TURNS == 0:
            for number in self._copies:
                for member in self.members:
                    if member.up and not member.held and (number, member.number) not in self.mail.cut:
                        self._do(member, lambda member, node=-number: member.step(CopySeen(node)))  # type: ignore[misc]

    def _deliver(self) -> None:
        deaf = {member.number for member in self.members if member.held}
        touched: dict[int, Member] = {}
        for _ in range(8):
            for message in self.mail.arriving(deaf):
                member = self.members[abs(message.to) - 1]
                if not member.up:
                    continue
                self.world.trace.note(member.name, "takes", message=message)
                self._do(member, lambda member, message=message: member.take(message))  # type: ignore[misc]
                if chance(self.random, self.setting.eager):
                    self._do(member, self._pump)
                else:
                    touched[member.number] = member
            if not touched:
                break
            for member in touched.values():
                self._do(member, self._pump)
            touched.clear()

    def _count(self, rate: float) -> int:
        whole = int(rate)
        return whole + chance(self.random, rate - whole)

    def found(self, checker: str, text: str) -> None:
        """Something does not hold."""
        self.watch.found(checker, text)

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All that was found."""
        return tuple(dict.fromkeys(self.watch.wrong))
