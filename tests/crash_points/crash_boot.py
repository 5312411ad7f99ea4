"""Boots the whole member on a directory that a crash has left, by the very assembly of a server, and has it read all.

The contract: it is assembled; it starts without a word of failure; its machine holds the rows that are there, and,
where it is alone and so leads, also every entry of its log; it stops; nothing that was on the disk is gone then.
The network is empty, the clock is played, the dice are fixed and a leader has no chores; all else is production's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple
from unittest.mock import patch

from crash_belief import Data, Log
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from twisted_kv.constants import TICK_SECONDS
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import NotSent
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.member import Member
from twisted_kv.service import assembly
from twisted_kv.service.settings import Settings
from twisted_kv.storage.directory import open_directory

GID: Final = 7
PATIENCE_SECONDS: Final = 6.0
"""Of the clock played here; a member alone leads after one election timeout."""


class Seat(NamedTuple):
    """Which member a directory belongs to: what the command line of its server says."""

    kind: Literal["controller", "group"]
    size: int = 1

    def machine(self) -> Any:
        """Its machine, blank."""
        return GroupMachine(GID) if self.gid else ControllerMachine()

    @property
    def gid(self) -> int:
        return GID if self.kind == "group" else 0

    @property
    def peers(self) -> Mapping[int, str]:
        """Node → endpoint, for as many as there are in its group."""
        return {node: f"e{node}" for node in range(1, self.size + 1)}


class Held(NamedTuple):
    """What a directory holds, as a start leaves it.

    Attributes:
        rows: the machine's digest with the rows; applied: with every entry of the log as well, if the member is alone.
    """

    log: Log
    data: Data
    rows: int
    applied: int | None


def boot(path: str, seat: Seat, held: Held) -> str:
    """Start a member on a directory, let it lead if it is alone, stop it, and look again.

    Returns:
        what is wrong; "" if nothing is.
    """
    clock = Clock()
    failures: list[str] = []
    with _listening(failures), patch.object(assembly, "fresh_random", lambda: Random(1)):
        try:
            member = _assembled(path, seat, clock, failures)
        except StartRefused as error:
            return f"refused by a whole member: {error}"
        except Exception as error:
            return f"assembling a member raised {error!r}"
        member.start().addErrback(lambda failure: failures.append(failure.getErrorMessage()))
        clock.advance(0)  # the rows are read in turns, and who is alone may lead in the same
        wrong = _misled(member, seat, clock, held, failures)
        stopped = member.stop()
        _until(clock, lambda: bool(stopped.called))
        if not stopped.called:
            return "a member booted on it does not stop"
    if failures:
        return f"a member booted on it says: {failures[0]}"
    return wrong or _left(path, held)


def _assembled(path: str, seat: Seat, clock: Clock, failures: list[str]) -> Member:
    settings = Settings(seat.kind, Path(path), "", 1, seat.peers, ("c1",), seat.gid, log_bytes_max=-1)
    assemble = assembly.assemble_group if seat.kind == "group" else assembly.assemble_controller
    network: Any = Nobody()
    member = assemble(settings, clock, network, lambda failure: failures.append(_first_line(failure)))
    machine: Any = member.machine
    machine.chores = lambda: ()
    take_changes = machine.take_changes

    def loaded() -> Any:
        machine.digest_of_rows = machine.digest()
        return take_changes()

    machine.take_changes = loaded
    return member


def _misled(member: Member, seat: Seat, clock: Clock, held: Held, failures: list[str]) -> str:
    log, data = held.log, held.data
    machine: Any = member.machine
    if machine.digest_of_rows != held.rows:
        return "a member booted on it holds other rows"
    if seat.size > 1:
        formed = dict(log.identity).get("formed") == "yes"
        if (member.replica is not None) != formed:
            return f"a member booted on it {'has' if member.replica else 'has not'} formed; formed was {formed}"
        status = member.status()
        if formed and (status["term"], status["applied"]) != (log.term, data.at):
            return f"a member booted on it stands at {status}, its files at term {log.term} and {data.at}"
        return ""
    last = max([data.at, *(entry[0] for entry in log.entries)])
    _until(clock, lambda: bool(failures) or (member.replica is not None and member.replica.applied > last))
    if member.replica is None or not member.replica.leads or member.replica.applied <= last:
        return f"a member alone that was booted on it does not lead: {member.status()}"
    return "" if machine.digest() == held.applied else "a member that leads has not applied what its log holds"


def _left(path: str, held: Held) -> str:
    """What a member leaves behind that has written no checkpoint: all that was there, and its own entries behind it."""
    log, data = held.log, held.data
    directory = open_directory(path, ballast_bytes=0)
    try:
        restored, position = directory.log.restore(), directory.data.position()
        left = Log.found(restored, directory.log.identity().items())
    finally:
        directory.close()
    entries = left.entries[: len(log.entries)] == log.entries and left.boundary == log.boundary
    promises = left.term > log.term or (left.term == log.term and log.vote in (0, left.vote))
    if not (entries and promises and position == (data.at, data.term)):
        return "a member was booted on it and stopped, and what was there is not there any more"
    return ""


def _until(clock: Clock, what: Any) -> None:
    waited = 0.0
    while not what() and waited < PATIENCE_SECONDS:
        clock.advance(TICK_SECONDS)
        waited += TICK_SECONDS


@contextmanager
def _listening(failures: list[str]) -> Iterator[None]:
    """What is logged as a failure meanwhile."""

    def heard(event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            failures.append(formatEvent(event))

    globalLogPublisher.addObserver(heard)  # type: ignore[arg-type]
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(heard)  # type: ignore[arg-type]


class Nobody:
    """A network without anybody, and what other networks here have in common with it."""

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        pass

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        return fail(NotSent("nobody listens"))

    def close(self) -> Deferred[None]:
        return succeed(None)


def _first_line(failure: Failure) -> str:
    return failure.getErrorMessage().split("\n")[0]
