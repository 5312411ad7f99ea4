"""What befalls those that live on: they are stopped for a while, their clocks and disks fail them, they are found
elsewhere or joined by others, and what was said before is said again.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_kv.simulation.doors.disk import SimDisk
from twisted_kv.simulation.doors.world import between
from twisted_kv.simulation.faults.reach import Reach
from twisted_kv.simulation.faults.sequences import fail_once


class Troubles(Reach):
    """Faults that kill nobody and cut no link."""

    def pause(self) -> None:
        """SIGSTOP somebody for a while."""
        self._hold(self._anybody())

    def pause_leader(self) -> None:
        """SIGSTOP a leader for a while (scenarios §3.6-54)."""
        self._hold(self._some_leader())

    def suspend(self) -> None:
        """Somebody stops for a while, and so does its clock: it wakes up and knows nothing of it (hazard 25)."""
        self._hold(self._anybody() if self._random.random() < 0.5 else self._some_leader(), frozen=True)

    def leap(self) -> None:
        """Somebody's clock leaps: its timers fire early. Back it never goes, being monotonic (hazard 24)."""
        name = self._anybody()
        if name is not None and not self._victim.held(name):
            self._victim.leap(name, between(self._random, 0.05, 3.0))

    def slow_disk(self) -> None:
        """Commits of somebody take 20 to 200 ms."""
        self._disk_fault(lambda disk: setattr(disk, "seconds", (0.02, 0.2)))

    def stalled_disk(self) -> None:
        """Somebody's disk hangs (hazard 7)."""
        self._disk_fault(lambda disk: setattr(disk, "stalled", True))

    def full_disk(self) -> None:
        """Somebody's disk is full, for its log and for its data (hazard 28)."""
        self._disk_fault(lambda disk: setattr(disk, "full", True), of_all=True)

    def failing_commit(self) -> None:
        """One commit fails, carried out or not; the disk is sound before and after it (hazard 27)."""
        which = "fails_after" if self._random.random() < 0.5 else "fails_before"
        self._disk_fault(lambda disk: fail_once(disk, which))

    def failing_disk(self) -> None:
        """A commit fails, carried out or not (hazard 27)."""
        which = "fails_after" if self._random.random() < 0.5 else "fails_before"
        self._disk_fault(lambda disk: setattr(disk, which, 0.5))

    def second_process(self) -> None:
        """Another process is started on the directory of somebody (hazard 37)."""
        name = self._anybody()
        if name is not None:
            self._victim.start_twice(name)

    def move_house(self) -> None:
        """A group is found under other endpoints; an administrator readdresses it."""
        gid = self._some_gid()
        if gid > 0:
            self._victim.move_house(gid)

    def invade(self) -> None:
        """A second set of processes boots under the gid of a group that has joined (scenarios §3.3-34)."""
        self._victim.invade()

    def echo(self) -> None:
        """Commands of the past are logged again for a while, any time later (faults/echoes; hazard 43)."""
        self._victim.echoes.sound(between(self._random, *self._plan.lasting_seconds))

    def misquote(self) -> None:
        """Likewise, with something else in them, for which they must be refused (hazards 37, 42 and 46)."""
        self._victim.echoes.misquote()

    def _hold(self, name: str | None, frozen: bool = False) -> None:
        if name is not None and not self._victim.held(name):
            self._victim.hold(name, frozen)
            self._after_a_while(self._go_on, name)

    def _go_on(self, name: str) -> None:
        if name in self._victim.alive and self._victim.held(name):
            self._victim.release(name)

    def _disk_fault(self, spoil: Callable[[SimDisk], None], of_all: bool = False) -> None:
        name = self._anybody() if self._random.random() < 0.5 else self._some_leader()
        if name is not None:
            log, data = self._victim.disks(name)
            of_log = self._random.random() < 0.7
            for disk in (log, data) if of_all else (log,) if of_log else (data,):
                spoil(disk)
            self._after_a_while(self._mend_disks, name)
