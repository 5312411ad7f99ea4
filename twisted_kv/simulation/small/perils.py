"""What goes wrong in a small group: phases of many turns, each with one way of everything, and tricks on leaders.

A phase draws the network, the disks, the clocks, the deaths and the users, each by itself and with a bias to what has
found faults before (hazards §0.5 and §3): kills at the moments on which promises rest, messages that wait for the next
leadership, whoever has just led cut off with commands on its hands, a leader that time forgets while others go on. It
decides nothing about what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from twisted_kv.consensus.types import NOBODY, PeerUnreachable, Role, TransferLeadership
from twisted_kv.simulation.doors.world import between, chance, one_of, shuffled, weighted
from twisted_kv.simulation.faults.moments import ELECTION_MOMENTS, LOG_MOMENTS
from twisted_kv.simulation.small.group import SmallGroup
from twisted_kv.simulation.small.member import Member
from twisted_kv.simulation.small.tricks import BY_NAME, Trick

T = TypeVar("T")

PHASE_TURNS: Final = (8, 20, 40, 80)
CHECKPOINT_MOMENTS: Final = tuple(
    f"{when} {what}" for what in ("checkpoint", "trim", "install", "reset") for when in ("before", "after")
)
LINKS: Final[Mapping[str, float]] = {
    "whole": 4.0,
    "leader alone": 2.0,
    "one alone": 2.0,
    "halves": 1.0,
    "deaf leader": 1.0,
    "dumb leader": 1.0,
    "bridge": 1.0,
    "some": 1.5,
    "whoever leads": 5.0,
}
CLOCKS: Final[Mapping[str, float]] = {"alike": 4.0, "uneven": 2.0, "slow leader": 1.0, "held": 2.0, "fast": 1.0}
DISKS: Final[Mapping[str, float]] = {
    "at once": 3.0,
    "slow": 3.0,
    "uneven": 2.0,
    "slow leader": 1.0,
    "stalled": 1.0,
    "full": 1.0,
}
DEATHS: Final[Mapping[str, float]] = {"none": 3.0, "any": 2.0, "leaders": 2.0, "ambush": 5.0, "all": 0.5}
KINDS: Final = ("loss", "delays", "limbo", "links", "clocks", "disks", "deaths", "tricks", "transfers", "fetches")
"""Of what goes wrong."""
TRICKS: Final[Mapping[str, float]] = {
    "none": 4.0,
    "forgotten leader": 3.0,
    "one ahead": 1.5,
    "handed over in vain": 1.5,
    "slow to save": 1.5,
}


class Perils:
    """What a life suffers.

    Args:
        group: is looked at, and made worse.

    Attributes:
        count: how many things were drawn that are wrong.
    """

    def __init__(self, group: SmallGroup) -> None:
        self._group = group
        self._random = group.world.random_for("perils")
        self._ends = 0
        self._trick: Trick | None = None
        self._led = 0
        self._rotate = 0
        self._rotate_at = 0
        self._death_rate = 0.0
        self._replays = 0.0
        self._transfers = 0.0
        self._wipes = chance(self._random, 0.3)
        # Swarm testing: each life does without some of it all.
        self._without = {kind for kind in KINDS if chance(self._random, 0.4)}
        self._stood: dict[int, tuple[int, Role]] = {}
        self.count = 0

    def resume(self) -> None:
        """All was well meanwhile: begin another phase."""
        self._ends = 0

    def turn(self) -> None:
        """What goes wrong in this turn."""
        group = self._group
        if group.turn >= self._ends:
            self._begin_phase()
        elections = len(group.elections)
        if elections > self._led:
            self._led = elections
            if chance(self._random, 0.7):
                group.mail.release()
        self._echo()
        if self._trick is not None:
            if not self._trick.turn():
                self._trick = None
                self._heal()
            return
        if self._rotate:
            self._cut_off_who_leads()
        if chance(self._random, self._death_rate):
            self._kill()
        if chance(self._random, self._transfers):
            for leader in group.leaders:
                to = one_of(self._random, (NOBODY, *sorted(group.voters)))
                leader.step(TransferLeadership(to))
        if chance(self._random, 0.1):
            self._report_cut_links()

    # ── phases ─────────────────────────────────────────────────────────────────────────────────────

    def _begin_phase(self) -> None:
        group, random, mail = self._group, self._random, self._group.mail
        self._ends = group.turn + one_of(random, PHASE_TURNS)
        self._trick = None
        self._heal()
        mail.loss = self._one_of("loss", (0.0, 0.0, 0.0, 0.05, 0.3))
        mail.duplicate = self._one_of("loss", (0.0, 0.0, 0.2, 0.5))
        mail.delays = self._one_of("delays", ((0,), (0,), (0, 0, 1), (0, 1, 3), (0, 0, 0, 12)))
        mail.limbo_kinds = self._kinds_for_limbo()
        mail.leaks = one_of(random, (0.0, 0.0, 0.3, 0.9))
        self._replays = self._one_of("limbo", (0.0, 0.3, 1.0))
        self._transfers = self._one_of("transfers", (0.0, 0.0, 0.0, 0.08))
        group.load.commands = one_of(random, (0.1, 0.4, 1.0, 3.0))
        group.load.reads = one_of(random, (0.0, 0.5, 0.5, 2.0))
        group.fetches = self._one_of("fetches", ((0, 1), (0, 3, 8), (10, 40)))
        group.fetch_loss = self._one_of("fetches", (0.0, 0.0, 0.4, 1.0))
        group.reboot_turns = one_of(random, ((1,), (1, 3, 10), (5, 30)))
        every = one_of(random, (0, 1, 1, 3, 10))
        for member in group.members:
            member.checkpoint_every = one_of(random, (every, every, every, 0))
        told = [
            self._draw_links(self._drawn("links", LINKS)),
            self._draw_clocks(self._drawn("clocks", CLOCKS)),
            self._draw_disks(self._drawn("disks", DISKS)),
            self._draw_deaths(self._drawn("deaths", DEATHS)),
            self._draw_trick(self._drawn("tricks", TRICKS)),
        ]
        limbo = ",".join(mail.limbo_kinds)
        group.world.trace.tell("run", f"{', '.join(told)}", loss=mail.loss, limbo=limbo, until=self._ends)

    def _one_of(self, kind: str, choices: Sequence[T]) -> T:
        """One of them; the first, which is nothing wrong, where the life does without this kind."""
        drawn = one_of(self._random, choices)
        return choices[0] if kind in self._without else drawn

    def _drawn(self, kind: str, weights: Mapping[str, float]) -> str:
        drawn = weighted(self._random, weights)
        return next(iter(weights)) if kind in self._without else drawn

    def _heal(self) -> None:
        mail = self._group.mail
        mail.cut = set()
        if mail.withheld:
            mail.withheld = {}
            if chance(self._random, 0.5):
                mail.release()
            else:
                mail.forget()
        for member in self._group.members:
            member.pace, member.held, member.full = 1.0, False, False
        self._rotate = 0

    def _kinds_for_limbo(self) -> Sequence[str]:
        random, group = self._random, self._group
        if "limbo" in self._without or chance(random, 0.5):
            return ()
        kinds = group.mail.kinds_sent(one_of(random, sorted(group.voters)))
        if chance(random, 0.5):
            return tuple(shuffled(random, list(kinds))[: one_of(random, (1, 1, 2, 3))])
        return (weighted(random, _rarest(kinds)),) if kinds else ()

    def _draw_links(self, name: str) -> str:
        numbers = sorted(self._group.voters)
        random = self._random
        one = one_of(random, numbers)
        leader = self._leader_or_any().number
        match name:
            case "leader alone":
                self._cut_off([leader])
            case "one alone":
                self._cut_off([one])
            case "halves":
                self._cut_off(shuffled(random, numbers)[: len(numbers) // 2])
            case "deaf leader":
                self._group.mail.cut = {(number, leader) for number in numbers}
            case "dumb leader":
                self._group.mail.cut = {(leader, number) for number in numbers}
            case "bridge":
                others = shuffled(random, [number for number in numbers if number != one])
                self._cut_between(others[: len(others) // 2], others[len(others) // 2 :])
            case "some":
                links = [(here, there) for here in numbers for there in numbers if here != there]
                self._group.mail.cut = {link for link in links if chance(random, 0.3)}
            case "whoever leads":
                self._rotate = one_of(random, (1, 2, 4, 10))
                self._rotate_at = 0
        self.count += name != "whole"
        return name

    def _draw_clocks(self, name: str) -> str:
        random, members = self._random, self._group.members
        match name:
            case "uneven":
                for member in members:
                    member.pace = between(random, 0.5, 1.5)
            case "slow leader":
                self._leader_or_any().pace = 0.2
            case "held":
                one_of(random, [member for member in members if member.up] or members).held = True
            case "fast":
                one_of(random, members).pace = 3.0
        self.count += name != "alike"
        return f"clocks {name}"

    def _draw_disks(self, name: str) -> str:
        group, random = self._group, self._random
        group.saves, group.saves_of = (0,), {}
        match name:
            case "slow":
                group.saves = one_of(random, ((0, 1), (0, 2, 5)))
            case "uneven":
                group.saves_of = {number: one_of(random, ((0,), (1, 2), (3, 8))) for number in sorted(group.voters)}
            case "slow leader":
                group.saves_of = {self._leader_or_any().number: (2, 6)}
            case "stalled":
                group.saves_of = {self._leader_or_any().number: (0, 0, 3 * group.setting.settings.election_ticks)}
            case "full":
                one_of(random, group.members).full = True
        self.count += name != "at once"
        return f"saves {name}"

    def _draw_deaths(self, name: str) -> str:
        group, random = self._group, self._random
        group.ambush, self._death_rate = {}, 0.0
        self._victims = "any"
        match name:
            case "any" | "leaders":
                self._death_rate, self._victims = one_of(random, (0.02, 0.1)), name
            case "ambush":
                rooms = (ELECTION_MOMENTS, LOG_MOMENTS, LOG_MOMENTS, CHECKPOINT_MOMENTS)
                moments = shuffled(random, one_of(random, rooms))[: one_of(random, (1, 2, 3))]
                share = one_of(random, (0.03, 0.1, 0.3))
                group.ambush = dict.fromkeys(moments, share)
            case "all":
                for member in group.members:
                    group.kill(member, chance(random, 0.5))
        self.count += name != "none"
        if self._wipes and chance(random, 0.15):
            self._wipe()
        return f"deaths {name}"

    def _draw_trick(self, name: str) -> str:
        group = self._group
        if name == "none" or not group.leaders:
            return "no trick"
        self.count += 1
        self._rotate = 0
        self._trick = BY_NAME[name](group, group.leaders[0])
        return name

    # ── deaths ─────────────────────────────────────────────────────────────────────────────────────

    def _kill(self) -> None:
        up = [member for member in self._group.members if member.up]
        leaders = self._group.leaders if self._victims == "leaders" else up
        if leaders:
            self._group.kill(one_of(self._random, leaders), chance(self._random, 0.5))
            self.count += 1

    def _wipe(self) -> None:
        """One member loses its disk, the furthest ahead rather than another; a majority keeps theirs."""
        group = self._group
        if group.may_wipe:
            whole = [member for member in group.members if member.number not in group.wiped]
            ahead = sorted(whole, key=lambda member: (member.leads, -member.log.disk.last))
            group.wipe(ahead[0] if chance(self._random, 0.6) else one_of(self._random, whole))
            self.count += 1

    # ── links ──────────────────────────────────────────────────────────────────────────────────────

    def _leader_or_any(self) -> Member:
        leaders = self._group.leaders
        return leaders[0] if leaders else one_of(self._random, self._group.members)

    def _cut_off(self, some: Sequence[int]) -> None:
        self._cut_between(some, [number for number in sorted(self._group.voters) if number not in some])

    def _cut_between(self, some: Sequence[int], others: Sequence[int]) -> None:
        self._group.mail.cut = {link for one in some for other in others for link in ((one, other), (other, one))}

    def _cut_off_who_leads(self) -> None:
        """Whoever has led for some turns is cut off or dies, and who was cut off before is back."""
        group = self._group
        if not group.elections or group.elections[-1] == self._rotate_at:
            return
        if group.turn < group.elections[-1] + self._rotate or not group.leaders:
            return
        self._rotate_at = group.elections[-1]
        leader = group.leaders[0]
        if chance(self._random, 0.3):
            group.kill(leader, chance(self._random, 0.5))
            group.mail.cut = set()
        else:
            friends = [member.number for member in group.members if member is not leader and member.up]
            company = shuffled(self._random, friends)[: one_of(self._random, (0, 0, (len(group.members) - 1) // 2 - 1))]
            self._cut_off([leader.number, *company])
            # Commands go on coming, one an entry if entries are small: its log grows beyond those of the others.
            for _ in range(one_of(self._random, (0, 3, 10))):
                leader.propose(b"tail")
            group.pump(leader)
        self.count += 1

    def _report_cut_links(self) -> None:
        for here, there in sorted(self._group.mail.cut):
            member = self._group.members[here - 1]
            if member.up and not member.held and chance(self._random, 0.3):
                member.step(PeerUnreachable(there))

    # ── messages of the past ───────────────────────────────────────────────────────────────────────

    def _echo(self) -> None:
        """Who stands for election, or leads, hears messages of other times, all of one kind."""
        for member in self._group.members:
            if not member.up or member.held:
                continue
            role, term = member.standing.role, member.standing.term
            if role not in (Role.CANDIDATE, Role.LEADER):
                continue
            begins = self._stood.get(member.number) != (term, role)
            self._stood[member.number] = term, role
            if chance(self._random, self._replays if begins else self._replays * 0.1):
                kinds = self._group.mail.kinds_sent(member.number)
                if kinds:
                    drawn = role is Role.CANDIDATE or chance(self._random, 0.3)
                    kind = weighted(self._random, _rarest(kinds)) if drawn else one_of(self._random, list(kinds))
                    self._group.mail.replay(member.number, _is_kind(kind))


def _rarest(kinds: Mapping[str, int]) -> Mapping[str, float]:
    """What is seldom sent is drawn rather than what is sent all the time: it decides more."""
    return {kind: 1 / count for kind, count in kinds.items()}


def _is_kind(kind: str) -> Callable[[Any], bool]:
    return lambda message: type(message).__name__ == kind
