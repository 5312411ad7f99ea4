"""What goes wrong with real processes, when and for how long; drawn from the dice of a seed.

Every fault is undone after a while, and ``calm`` undoes all of them at once. The dice are the seed's, the instants are
the machine's: a seed gives the same row of faults, not the same run. Decides nothing about what must hold.
"""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from chaos_onlooker import Onlooker
from chaos_proxy import BLACK_HOLE, CUT, FROZEN, Weather
from chaos_servers import CLIENTS, Fleet, Server

from twisted_kv.simulation.doors.world import between, one_of, shuffled, weighted

EVERY_SECONDS: Final = (0.5, 3.5)
LASTING_SECONDS: Final = (0.3, 8.0)
STOPPED_SECONDS: Final = (0.1, 30.0)
HOUR: Final = 3600.0

FAULTS: Final[Mapping[str, Mapping[str, float]]] = {
    "kill": {"kill_one": 2.0, "kill_leader": 3.0, "kill_majority": 1.0, "kill_group": 1.0},
    "power": {"power_off": 1.5},
    "terminate": {"terminate_one": 1.0, "terminate_leader": 2.0},
    "stop": {"stop_one": 1.5, "stop_leader": 2.5, "stop_majority": 1.0},
    "partition": {"halves": 1.5, "ring": 1.0, "one_way": 2.0, "leader_alone": 2.5, "bridge": 1.5, "clients_cut": 1.0},
    "link": {"slow_links": 1.0, "narrow_links": 0.7, "resets": 1.5, "half_open": 1.5, "frozen": 1.0},
    "full": {"full_disk": 1.5},
    "disk": {"failing_sync": 1.5, "slow_disk": 1.0, "hung_disk": 1.5},
    "wipe": {"wipe": 1.5},
    "clock": {"clock_step": 1.0, "clock_strobe": 1.0},
}
"""Family → name of a method of Nemesis → weight. A family or a name can be asked for."""


def chosen(names: Sequence[str], can_fail_disks: bool, can_fill_disks: bool) -> dict[str, float]:
    """The weights of these faults, by family or name; no names: all.

    Args:
        can_fail_disks: whether syncs can be made to fail.
        can_fill_disks: whether some disk can be filled.
    Raises:
        KeyError: there is no such fault.
    """
    everything = {name: weight for family in FAULTS.values() for name, weight in family.items()}
    wanted: dict[str, float] = {} if names else dict(everything)
    for name in names:
        wanted |= FAULTS[name] if name in FAULTS else {name: everything[name]}
    possible = {"disk": can_fail_disks, "full": can_fill_disks}
    impossible = [name for family, can in possible.items() if not can for name in FAULTS[family]]
    return {name: weight for name, weight in wanted.items() if name not in impossible}


class Nemesis:
    """Lets faults loose on a fleet.

    Args:
        faults: name of a method → weight.

    Attributes:
        count: how often each fault has struck, over all rounds.
        story: (seconds, line) of each.
    """

    def __init__(
        self, reactor: Any, random: Random, fleet: Fleet, onlooker: Onlooker, faults: Mapping[str, float]
    ) -> None:
        self._reactor = reactor
        self._random = random
        self._fleet = fleet
        self._onlooker = onlooker
        self._faults = faults
        self._timers: set[Any] = set()
        self._shaped: list[tuple[str, str]] = []
        self._network_fault = 0
        self._wiped: dict[int, Server] = {}
        self._raging = False
        self.count: Counter[str] = Counter()
        self.story: list[tuple[float, str]] = []

    def start(self) -> None:
        """Begin."""
        self._raging = True
        self._wait()

    def calm(self) -> None:
        """No more faults: links heal, the stopped go on, disks are sound, clocks are right, the dead boot."""
        self.stop()
        self._tell("calm")
        self._fleet.mesh.heal()
        for server in self._fleet:
            server.mend()
            server.mend("clock")
            server.go_on()
            self._fleet.spawn(server)

    def stop(self) -> None:
        """Do nothing more, undo nothing."""
        self._raging = False
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._timers.clear()

    def _wait(self) -> None:
        if self._faults:
            self._later(between(self._random, *EVERY_SECONDS), self._strike)

    def _strike(self) -> None:
        name = weighted(self._random, self._faults)
        if getattr(self, name)() is not False:
            self.count[name] += 1
        self._wait()

    # ── processes ──────────────────────────────────────────────────────────────────────────────────

    def kill_one(self) -> bool:
        """SIGKILL somebody."""
        return self._kill(self._anybody())

    def kill_leader(self) -> bool:
        """SIGKILL a leader."""
        return self._kill(self._some_leader())

    def kill_majority(self) -> bool:
        """SIGKILL two of three."""
        return self._kill(*shuffled(self._random, self._some_group())[:2])

    def kill_group(self) -> bool:
        """SIGKILL a whole group."""
        return self._kill(*self._some_group())

    def power_off(self) -> bool:
        """SIGKILL everybody at once."""
        return self._kill(*self._fleet)

    def terminate_one(self) -> bool:
        """SIGTERM somebody."""
        return self._terminate(self._anybody())

    def terminate_leader(self) -> bool:
        """SIGTERM a leader."""
        return self._terminate(self._some_leader())

    def stop_one(self) -> bool:
        """SIGSTOP somebody."""
        return self._pause(self._anybody())

    def stop_leader(self) -> bool:
        """SIGSTOP a leader (hazard 25)."""
        return self._pause(self._some_leader())

    def stop_majority(self) -> bool:
        """SIGSTOP two of three."""
        return self._pause(*shuffled(self._random, self._some_group())[:2])

    def wipe(self) -> bool:
        """Somebody loses its disk and comes back as a copy (hazard 9): always the same one of a group, so that those
        who hold what was acknowledged stay a majority of the voters."""
        members = self._some_group()
        victim = self._wiped.setdefault(members[0].gid, one_of(self._random, members))
        if not victim.running or victim.port is None:
            return False
        self._tell("wipe", victim)
        victim.end(signal.SIGKILL)
        victim.gone().addCallback(lambda _: victim.wipe())
        self._after_a_while(self._boot, victim)
        return True

    # ── partitions ─────────────────────────────────────────────────────────────────────────────────

    def halves(self) -> bool:
        """Every server to one of two sides."""
        sides = {server.name: self._random.getrandbits(1) for server in self._fleet}
        cut = self._break()
        return self._shape({ends: cut for ends in self._between_servers() if sides[ends[0]] != sides[ends[1]]})

    def ring(self) -> bool:
        """In every group each member can dial only the next one."""
        cut = self._break()
        order = {server.name: place for place, server in enumerate(shuffled(self._random, list(self._fleet)))}
        broken = {}
        for members in self._fleet.groups.values():
            row = sorted((server.name for server in members), key=order.__getitem__)
            ways = {(name, row[(place + 1) % len(row)]) for place, name in enumerate(row)}
            broken |= {(a, b): cut for a in row for b in row if a != b and (a, b) not in ways}
        return self._shape(broken)

    def one_way(self) -> bool:
        """On some links nothing gets through in one direction, and neither side is told."""
        oneway = (Weather(out="swallow"), Weather(back="swallow"))
        links = [ends for ends in self._between_servers() if self._random.random() < 0.25]
        return self._shape({ends: one_of(self._random, oneway) for ends in links})

    def leader_alone(self) -> bool:
        """A leader that no other server reaches, and all clients do (hazard 22)."""
        leader = self._some_leader()
        cut = self._break()
        if leader is None:
            return False
        return self._shape({ends: cut for ends in self._between_servers() if leader.name in ends})

    def bridge(self) -> bool:
        """In one group, two members see each other only through the third."""
        one, other, _ = (server.name for server in shuffled(self._random, self._some_group()))
        cut = self._break()
        return self._shape({(one, other): cut, (other, one): cut})

    def clients_cut(self) -> bool:
        """No client, and no other group, reaches some servers."""
        cut = self._break()
        return self._shape({(CLIENTS, server.name): cut for server in self._fleet if self._random.random() < 0.5})

    # ── links ──────────────────────────────────────────────────────────────────────────────────────

    def slow_links(self) -> bool:
        """Long ways, of very different length, to and from somebody or between all."""
        most = one_of(self._random, (0.05, 0.2, 0.8))
        return self._shape(dict.fromkeys(self._some_links(), Weather(delay_seconds=(most / 10, most))))

    def narrow_links(self) -> bool:
        """Links with little room."""
        return self._shape(dict.fromkeys(self._some_links(), Weather(bytes_per_second=20_000.0)))

    def resets(self) -> bool:
        """Connections break again and again, at any time or just when something was to get through."""
        return self._shape(dict.fromkeys(self._some_links(), Weather(resets_per_second=1.0, reset_chance=0.02)))

    def half_open(self) -> bool:
        """Connections are accepted, and all that is sent is lost without a word."""
        return self._shape(dict.fromkeys(self._some_links(), BLACK_HOLE))

    def frozen(self) -> bool:
        """Nothing gets through, then all of it."""
        return self._shape(dict.fromkeys(self._some_links(), FROZEN))

    # ── disks and clocks ───────────────────────────────────────────────────────────────────────────

    def full_disk(self) -> bool:
        """A disk has no room (hazard 28)."""
        able = [server for server in self._fleet if server.small_disk or self._fleet.can_fail_disks]
        victim = one_of(self._random, able)
        if not victim.running:
            return False
        self._tell("full_disk", victim)
        victim.fill()
        self._after_a_while(victim.mend, "full")
        return True

    def failing_sync(self) -> bool:
        """Syncs fail (hazard 27)."""
        victim = self._disk_fault("eio", "")
        if victim is not None:
            self._after_a_while(self._boot, victim)
        return victim is not None

    def slow_disk(self) -> bool:
        """Syncs take long."""
        return self._disk_fault("slow", one_of(self._random, ("20", "100", "300"))) is not None

    def hung_disk(self) -> bool:
        """Syncs do not return (hazard 7)."""
        return self._disk_fault("hung", "") is not None

    def clock_step(self) -> bool:
        """Somebody's wall clock is an hour off (hazard 24)."""
        self._shift(one_of(self._random, (HOUR, -HOUR)), [self._anybody()])
        return True

    def clock_strobe(self) -> bool:
        """The wall clocks of some step to and fro."""
        victims = [server for server in self._fleet if self._random.random() < 0.5]
        for beat in range(20):
            self._later(0.1 * beat, self._shift, HOUR if beat % 2 else -HOUR, victims)
        return True

    # ── whom, and until when ───────────────────────────────────────────────────────────────────────

    def _some_group(self) -> list[Server]:
        return self._fleet.groups[one_of(self._random, sorted(self._fleet.groups))]

    def _anybody(self) -> Server | None:
        alive = [server for server in self._fleet if server.running]
        return one_of(self._random, alive) if alive else None

    def _some_leader(self) -> Server | None:
        return self._onlooker.leader(self._some_group()[0].gid)

    def _some_links(self) -> list[tuple[str, str]]:
        links = sorted(self._fleet.mesh.links)
        if self._random.random() < 0.3:
            return links
        target = one_of(self._random, [server.name for server in self._fleet])
        return [ends for ends in links if target in ends]

    def _between_servers(self) -> list[tuple[str, str]]:
        return [ends for ends in sorted(self._fleet.mesh.links) if CLIENTS not in ends]

    def _break(self) -> Weather:
        return one_of(self._random, (CUT, BLACK_HOLE, FROZEN))

    def _kill(self, *victims: Server | None) -> bool:
        found = [server for server in victims if server is not None and server.running]
        for server in found:
            server.end(signal.SIGKILL)
        return self._down("SIGKILL", found)

    def _terminate(self, victim: Server | None) -> bool:
        if victim is None or not victim.running or victim.paused:
            return False
        victim.end(signal.SIGTERM)
        return self._down("SIGTERM", [victim])

    def _down(self, how: str, victims: Sequence[Server]) -> bool:
        if not victims:
            return False
        self._tell(how, *victims)
        together = self._random.random() < 0.5
        seconds = between(self._random, *LASTING_SECONDS)
        for server in victims:
            self._later(seconds if together else between(self._random, *LASTING_SECONDS), self._boot, server)
        return True

    def _boot(self, server: Server) -> None:
        if self._raging and not server.running:
            self._tell("start", server)
            self._fleet.spawn(server)

    def _pause(self, *victims: Server | None) -> bool:
        found = [server for server in victims if server is not None and server.running and not server.paused]
        # As many of a tenth of a second as of ten.
        least, most = map(math.log, STOPPED_SECONDS)
        seconds = math.exp(between(self._random, least, most))
        for server in found:
            server.pause()
            self._later(seconds, server.go_on)
        if found:
            self._tell(f"SIGSTOP for {seconds:.1f} s", *found)
        return bool(found)

    def _shape(self, weather: Mapping[tuple[str, str], Weather]) -> bool:
        """One network fault at a time: a new one ends the one before."""
        self._network_fault += 1
        self._fleet.mesh.heal(self._shaped)
        self._shaped = list(weather)
        self._fleet.mesh.shape(weather)
        kinds = sorted({str(each) for each in weather.values()})
        self._tell(f"{len(weather)} links: {', '.join(kinds)}: {' '.join('>'.join(ends) for ends in weather)}")
        self._after_a_while(self._network_fault_ends, self._network_fault)
        return bool(weather)

    def _network_fault_ends(self, number: int) -> None:
        if number == self._network_fault:
            self._fleet.mesh.heal(self._shaped)
            self._tell("links are sound")

    def _disk_fault(self, fault: str, text: str) -> Server | None:
        victim = self._some_leader() if self._random.random() < 0.5 else self._anybody()
        if victim is None or not victim.running:
            return None
        self._tell(f"disk: {fault} {text}", victim)
        victim.suffer(fault, text)
        self._after_a_while(victim.mend, fault)
        return victim

    def _shift(self, seconds: float, victims: Sequence[Server | None]) -> None:
        for server in victims:
            if server is not None and server.running:
                server.suffer("clock", str(seconds))
                self._after_a_while(server.mend, "clock")

    def _after_a_while(self, undo: Callable[..., None], *arguments: object) -> None:
        self._later(between(self._random, *LASTING_SECONDS), undo, *arguments)

    def _later(self, seconds: float, do: Callable[..., None], *arguments: object) -> None:
        def due() -> None:
            self._timers.discard(timer)
            do(*arguments)

        timer = self._reactor.callLater(seconds, due)
        self._timers.add(timer)

    def _tell(self, what: str, *whom: Server) -> None:
        self.story.append((self._reactor.seconds(), " ".join([what, *(server.name for server in whom)])))
