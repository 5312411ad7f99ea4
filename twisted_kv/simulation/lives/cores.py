"""The life of a small group of cores: it suffers, the faults stop, and everything must come right.

Decides what a seed draws, how long a life is, how the faults stop, what coming right means, and what a life proves.
What goes wrong on the way is in ``small.perils``, what must hold at every step in ``small.promises`` and in the judges
of the whole simulation. No Clerk, machine, store or door takes part, so a life of thousands of steps is soon over.

Source of the settings and endings: hazards §3; of what must come right: Raft §5, thesis §3.10, §9.6, §10.2.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Final

import msgspec

from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.constants import ELECTION_TICKS
from twisted_kv.simulation.doors.world import Event, World, chance, one_of, shuffled
from twisted_kv.simulation.judges.checkers import BROKEN, CALLS, ONE_ELECTION, SETTLES
from twisted_kv.simulation.lives.reports import Report, shortened
from twisted_kv.simulation.small.group import Load, Setting, SmallGroup
from twisted_kv.simulation.small.perils import Perils

ALL_HEALS: Final = "all heals"
POWER_FAILS: Final = "the power fails"
MAJORITY_HEALS: Final = "a majority heals"
IN_STEP: Final = "the power fails, and all goes in step"
ENDINGS: Final = (ALL_HEALS, ALL_HEALS, POWER_FAILS, MAJORITY_HEALS, IN_STEP)
SETTLE_ELECTIONS: Final = 40
"""So many of the longest election timeouts may pass until all is well."""
ENTRY_TURNS: Final = 4
"""So many turns more for each entry that somebody may lack: limits may let them through one by one."""
LATE_TURNS: Final = 25
"""Nothing that is under way takes longer (small.perils)."""
QUIET_ELECTIONS: Final = 2
"""So many of them are watched afterwards: leaders stay."""
COMMANDS_MIN: Final = 20
ELECTIONS_MIN: Final = 2
"""With fewer commands and reads answered, or fewer elections, a life means nothing."""

TIMES_MORE: Final = 4
"""A life with too little to mean anything suffers again, at most so often."""


class CorePlan(msgspec.Struct, frozen=True):
    """A plan for lives of cores alone.

    Attributes:
        name: by which it is asked for.
        sizes: of groups; one is drawn.
        turns: that a life suffers until the faults stop; one is drawn.
        times: that they stop; one is drawn.
    """

    name: str
    sizes: Sequence[int] = (3, 3, 5)
    turns: Sequence[int] = (100, 200, 400)
    times: Sequence[int] = (2, 3)


CORES: Final = CorePlan("cores")


def live_cores(seed: int, plan: CorePlan, sink: Callable[[Event], None] | None = None) -> Report:
    """Live one life and judge it.

    Args:
        sink: is given every event of the trace.
    """
    world = World(seed, sink)
    life = CoreLife(world, draw_setting(world.random_for("shape"), plan))
    try:
        life.live()
    except Exception:
        life.group.found(BROKEN, traceback.format_exc())
    violations = life.group.violations
    return Report(
        seed,
        plan.name,
        violations,
        tuple(shortened(world.trace.story, violations)) if violations else (),
        world.trace.digest(),
        life.figures(),
        dict(world.reached),
        "" if violations else life.void(),
    )


def draw_setting(random: Random, plan: CorePlan) -> Setting:
    """What a seed draws besides what goes wrong; extreme limits in most lives."""
    election = one_of(random, (4, 5, ELECTION_TICKS, ELECTION_TICKS))
    extreme = chance(random, 0.8)
    settings = RaftSettings(
        heartbeat_ticks=one_of(random, (1, 1, 2)) if election > 4 else 1,
        election_ticks=election,
        window_messages=one_of(random, (1, 2, 64)) if extreme else 64,
        window_bytes=one_of(random, (100, 1 << 23)) if extreme else 1 << 23,
        append_bytes_max=one_of(random, (1, 1, 100, 1 << 20)) if extreme else 1 << 20,
        entry_bytes_max=one_of(random, (1, 1, 20, 1 << 20)) if extreme else 1 << 20,
        committed_bytes_max=one_of(random, (1, 100, 1 << 22)) if extreme else 1 << 22,
    )
    return Setting(
        size=one_of(random, plan.sizes),
        settings=settings,
        eager=one_of(random, (1.0, 0.7, 0.0)),
        lag=chance(random, 0.3),
        turns=one_of(random, plan.turns),
        endings=tuple([one_of(random, ENDINGS) for _ in range(one_of(random, plan.times))]),
    )


class CoreLife:
    """One life, from the first boot to the last word of its judges."""

    def __init__(self, world: World, setting: Setting) -> None:
        self.group = SmallGroup(world, setting)
        self._world = world
        self._random = world.random_for("life")
        self._election = 2 * setting.settings.election_ticks
        self._perils = Perils(self.group)
        self._apart: list[int] = []

    def live(self) -> None:
        """Suffer, then come right, some times; ends as soon as something was found."""
        group = self.group
        self._world.trace.tell("run", f"{group.setting}")
        for member in group.members:
            member.checkpoint_lag = group.setting.lag
        group.boot_all()
        for ending in self._endings():
            self._perils.resume()
            for _ in range(group.setting.turns):
                self._perils.turn()
                group.pass_turn()
                if group.watch.wrong:
                    return
            self._stop_the_faults(ending)
            self._come_right()
            if self._apart and not group.watch.wrong:
                self._world.trace.tell("run", "the others heal")
                group.mail.calm()
                group.boot_all()
                self._apart = []
                self._come_right()
            if group.watch.wrong:
                return

    def _endings(self) -> Iterator[str]:
        """How the faults stop, one time after the other; some times more if too little was done to mean anything."""
        yield from self.group.setting.endings
        for _ in range(TIMES_MORE):
            if self.void():
                yield POWER_FAILS

    def void(self) -> str:
        """Why nothing follows from this life, or ""."""
        if self.group.judge.done < COMMANDS_MIN:
            return f"only {self.group.judge.done} commands and reads were answered"
        if len(self.group.elections) < ELECTIONS_MIN:
            return f"only {len(self.group.elections)} elections"
        return ""

    def figures(self) -> Mapping[str, float]:
        """How much was done, for people."""
        group = self.group
        return {
            "calls": group.judge.done,
            "committed": len(group.judge.past.committed),
            "elections": len(group.elections),
            "deaths": group.deaths,
            "faults": self._perils.count + group.deaths,
            "turns": group.turn,
        }

    # ── the end ────────────────────────────────────────────────────────────────────────────────────

    def _stop_the_faults(self, ending: str) -> None:
        group = self.group
        self._world.trace.tell("run", f"the faults stop: {ending}")
        group.calm()
        if ending in (POWER_FAILS, IN_STEP):
            for member in group.members:
                group.kill(member, chance(self._random, 0.5))
        if chance(self._random, 0.5):
            group.mail.release()
        group.mail.forget()
        group.load = Load(0.0, 0.0)
        if ending == IN_STEP:
            group.mail.delays = (1,)
        elif chance(self._random, 0.5):
            group.mail.delays = (0, 1)
        if ending == MAJORITY_HEALS:
            whole = [member.number for member in group.members if member.number not in group.wiped]
            self._apart = shuffled(self._random, whole)[: (group.setting.size - 1) // 2 - len(group.wiped)]
            for member in group.members:
                if member.number in self._apart:
                    group.kill(member, True)
            group.keep_down(self._apart)
        group.boot_all(self._apart)

    def _come_right(self) -> None:
        """Everybody follows one leader, holds the same, and answers; and so it stays."""
        group = self.group
        logs = [member.log.disk for member in group.members]
        backlog = max(disk.last for disk in logs) - min(disk.boundary.index for disk in logs)
        # What was under way when the faults stopped may still arrive, and a handing over still come about.
        settled_from = group.turn + LATE_TURNS + self._election
        for _ in range(SETTLE_ELECTIONS * self._election + ENTRY_TURNS * backlog):
            group.pass_turn()
            if group.watch.wrong or (group.turn >= settled_from and self._unsettled() == ""):
                break
        if group.watch.wrong:
            return
        unsettled = self._unsettled()
        if unsettled:
            group.found(SETTLES, f"{SETTLE_ELECTIONS} election timeouts after the faults stopped: {unsettled}")
            return
        elections = len(group.elections)
        self._ask()
        for _ in range(QUIET_ELECTIONS * self._election):
            group.pass_turn()
        if len(group.elections) > elections:
            group.found(ONE_ELECTION, f"{group.elections[elections:]}: elections when all followed one leader")
        elif unsettled := self._unsettled():
            group.found(SETTLES, f"all was well, and then: {unsettled}")
        elif group.judge.done < self._wanted:
            group.found(CALLS, f"{self._wanted - group.judge.done} of the last calls had no answer")

    def _ask(self) -> None:
        [leader] = self.group.leaders
        self._wanted = self.group.judge.done + 2
        leader.propose(b"last")
        self.group.ask(leader)
        self.group.pump(leader)

    def _unsettled(self) -> str:
        """What is still to come, or ""."""
        group = self.group
        up = [member for member in group.members if member.number not in self._apart]
        down = [member.name for member in up if not member.up]
        if down:
            return f"{', '.join(down)} is down"
        leaders = group.leaders
        if len(leaders) != 1:
            return f"{len(leaders)} lead"
        lead = leaders[0].status
        for member in up:
            status = member.status
            if (status.term, status.leader) != (lead.term, lead.leader):
                return f"{member.name} follows {status.leader} in term {status.term}, {lead.node} leads {lead.term}"
            if member.machine.index != lead.last or status.last != lead.last or member.saving is not None:
                return f"{member.name} stands at {member.machine.index} of {status.last}, of {lead.last} there are"
        return ""
