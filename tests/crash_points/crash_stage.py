"""One Member on a clock that is played here: door, corridor, core, machine, checkpoints, production disk.

It asks through the doors or by commands, asks again what was turned away, and marks what leaves and what is answered.
What is asked, the scripts decide (crash_members). Knows nobody else on the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Any, Final

from crash_boot import GID, Nobody
from crash_recording import Recorder
from crash_workloads import GaveUp, MarkedDirectory
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.codec import Codec
from twisted_kv.consensus.raft.messages import (
    MESSAGES,
)
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
)
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.member import Member, Parts
from twisted_kv.replica.pending import LeadershipLost
from twisted_kv.storage.disk import InlineDisk
from twisted_kv.transport.wire import (
    ANSWERS,
    Busy,
    NotLeading,
    Unsettled,
)

SHARDS: Final = 4
TICK_SECONDS: Final = 0.01
PATIENCE_SECONDS: Final = 6.0
"""Of the clock played here; a member that meets a full disk tries again every half second."""


class Stopped(Exception):
    """The member has stopped by itself; the cause is the failure it gave."""


class NoChores:
    work: Mapping[type, Callable[[Any], Any]] = MappingProxyType({})


class Stage:
    """One member on a clock played here.

    Args:
        kind: "group" or "controller".
        log_bytes_max: as the option of the servers.
        network: an INetwork; ``peers`` says who else there is.
    """

    def __init__(
        self,
        recorder: Recorder,
        path: str,
        kind: Any,
        log_bytes_max: int = -1,
        network: Nobody | None = None,
        size: int = 1,
    ) -> None:
        self.recorder = recorder
        self.clock = Clock()
        self.failure: Failure | None = None
        self.machine = _without_chores(GroupMachine(GID) if kind == "group" else ControllerMachine())
        self.asked = 0
        peers = {node: f"e{node}" for node in range(1, size + 1)}
        directory = MarkedDirectory(recorder, path)
        try:
            parts = Parts(
                kind=kind,
                gid=GID if kind == "group" else 0,
                node=1,
                peers=peers,
                directory=directory,
                log_disk=InlineDisk(),
                data_disk=InlineDisk(),
                read_disk=InlineDisk(),
                network=network or Nobody(),
                clock=self.clock,
                random=Random(1),
                make_core=lambda me, voters, restored, applied: RaftNode(
                    me, voters, restored, Random(1), applied=applied
                ),
                codec=MESSAGES,
                consensus="raft",
                machine=self.machine,
                log_bytes_max=log_bytes_max,
            )
            self.member = Member(parts, self._doors(kind, peers), lambda replica, identity: NoChores(), self._failed)
        except BaseException:
            directory.close()
            raise
        self.member.start().addErrback(self._failed)

    def _doors(self, kind: str, peers: Mapping[int, str]) -> Callable[[Any], Any]:
        if kind == "group":
            return lambda replica, waits: GroupDoors(1, replica, self.machine, self.clock, {}).doors
        return lambda replica, waits: ControllerDoors(1, replica, peers, Nobody(), waits).doors

    def _failed(self, failure: Failure) -> None:
        self.failure = self.failure or failure

    def until(self, what: Callable[[], bool]) -> None:
        """Let time pass until something is so.

        Raises:
            Stopped: the member has stopped by itself.
            GaveUp: it is not so for long.
        """
        waited = 0.0
        while not what():
            if self.failure is not None:
                raise Stopped from self.failure.value
            if waited > PATIENCE_SECONDS:
                raise GaveUp
            self.clock.advance(TICK_SECONDS)
            waited += TICK_SECONDS

    def lead(self) -> None:
        """Wait until the member leads."""
        self.until(lambda: self.member.replica is not None and self.member.replica.leads)

    def ask(self, verb: str, *commands: Any, codec: Codec[Any] = GROUP_COMMANDS) -> list[Any]:
        """Commands through a door, all in one turn; asked again, with the same ids, until they are settled.

        Returns:
            the answers.
        """
        bodies = [codec.encode(command) for command in commands]
        return self._settled(bodies, lambda body: self.member.doors[verb](body).addCallback(ANSWERS.decode))

    def submit(self, *commands: Any, codec: Codec[Any] = GROUP_COMMANDS) -> None:
        """Commands straight into the log, as the reconciler puts them, one after the other."""
        for command in commands:
            self._settled([codec.encode(command)], self._into_the_log)

    def _into_the_log(self, body: bytes) -> Deferred[Any]:
        assert self.member.replica is not None
        return self.member.replica.submit(body).addErrback(self._unsettled)

    def _unsettled(self, failure: Any) -> Unsettled:
        if failure.check(LeadershipLost) is None:
            failure.raiseException()
        return Unsettled(1, 0)

    def _settled(self, bodies: Sequence[bytes], send: Callable[[bytes], Deferred[Any]]) -> list[Any]:
        while True:
            self.lead()
            told: dict[int, Any] = {}
            for number, body in enumerate(bodies):
                self.recorder.mark("asked", body)
                self.asked += 1
                send(body).addCallbacks(self._told, self._failed, callbackArgs=(self.asked, told, number))
            self.until(lambda told=told: len(told) == len(bodies))  # type: ignore[misc]
            kinds = {type(answer) for answer in told.values()} & {NotLeading, Busy, Unsettled}
            if not kinds:
                return [told[number] for number in range(len(bodies))]
            assert len(kinds) == 1, "commands of one turn share their fate"
            if Unsettled not in kinds:  # they never entered the log
                self.recorder.mark("withdrawn", len(bodies))
                self.asked -= len(bodies)

    def _told(self, answer: Any, place: int, told: dict[int, Any], number: int) -> None:
        if not isinstance(answer, NotLeading | Busy | Unsettled):
            self.recorder.mark("answered", place)
        told[number] = answer

    def close(self) -> None:
        """Stop in order."""
        done = self.member.stop()
        self.until(lambda: bool(done.called))


def _without_chores(machine: Any) -> Any:
    """What a leader would do by itself is asked for here, command by command."""
    machine.chores = lambda: ()
    return machine
