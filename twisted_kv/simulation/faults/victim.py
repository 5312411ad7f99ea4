"""What can be done to a cluster by whoever wishes it ill: all that a Nemesis knows of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted_kv.simulation.doors.disk import SimDisk
from twisted_kv.simulation.doors.network import Hub
from twisted_kv.simulation.faults.echoes import Echoes


class Victim(Protocol):
    """What can be done to a cluster. Members are named; a group is the members that vote together."""

    hub: Hub
    moment: Callable[[str, str], None]
    """Called with the name of a moment (simulation/faults/moments) and of the member that has come to it."""

    @property
    def groups(self) -> Mapping[int, Sequence[str]]:
        """gid (0: the controllers) → names of the members."""

    @property
    def alive(self) -> Sequence[str]:
        """Members that run, held or not."""

    @property
    def dead(self) -> Sequence[str]:
        """Members that were killed, or have stopped by themselves."""

    def leader(self, gid: int) -> str | None:
        """Who leads, as far as an onlooker can tell."""

    def kill(self, name: str, torn: bool = False) -> None:
        """SIGKILL; ``torn``: the power fails, in the middle of a write."""

    def restart(self, name: str) -> None:
        """Boot a dead member again on what its disk holds."""

    def terminate(self, name: str) -> None:
        """SIGTERM; it starts again by itself."""

    def wipe(self, name: str) -> None:
        """Kill a member, if it is alive, and empty its directory."""

    def flip(self, name: str) -> None:
        """Kill a member, if it is alive, and flip a bit in one of its files."""

    def cut_at_start(self, name: str) -> None:
        """The power fails while a member opens its directory at its next start."""

    def start_twice(self, name: str) -> None:
        """Start another process on the directory of a member that is alive."""

    def hold(self, name: str, frozen: bool = False) -> None:
        """SIGSTOP; ``frozen``: its clock stands still meanwhile."""

    def release(self, name: str) -> None:
        """SIGCONT."""

    def held(self, name: str) -> bool:
        """Whether it is stopped by ``hold``."""

    def leap(self, name: str, seconds: float) -> None:
        """Its clock shows so much more at once."""

    def move_house(self, gid: int) -> None:
        """A group is found elsewhere from now on, and the controllers are told."""

    def invade(self) -> None:
        """A second set of processes boots under a gid that has joined, if the cluster has one."""

    @property
    def echoes(self) -> Echoes:
        """What its groups have said, and may say again."""

    def disks(self, name: str) -> Sequence[SimDisk]:
        """The disk of the log and that of the data of a member that is alive."""
