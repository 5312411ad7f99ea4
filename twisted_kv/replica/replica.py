"""The corridor of one replica: save, send, apply, answer, advance — and nothing else.

The pump runs at most once per reactor turn: what arrived in the turn is stepped first, then one Ready is taken.
That one rule gives one transaction, one append per peer and one answer per batch and turn (house.md). It knows
neither what a command means nor how an order is reached; checkpoints, snapshots and chores are other rooms.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.consensus.types import (
    NOBODY,
    DiskFull,
    Entry,
    NotLeader,
    Ready,
    Role,
    SaveResumed,
    SaveStalled,
    SnapshotSource,
    Standing,
    Status,
    TransferLeadership,
)
from twisted_kv.constants import APPLY_BYTES_MAX, ELECTION_TICKS, TICK_SECONDS
from twisted_kv.interfaces import IConsensus, IDisk, ILogStore, IStateMachine, SaveRefused
from twisted_kv.replica.mail import Mail
from twisted_kv.replica.pending import PendingCommands, PendingReads

STALL_SECONDS = ELECTION_TICKS * TICK_SECONDS
SAVE_AGAIN_SECONDS = 0.5
HAND_OVER_SECONDS = 2.0


class IWitness(Protocol):
    """Who is told, after the fact, what the corridor has done."""

    def applied(self, entries: tuple[Entry, ...]) -> None:
        """These entries were applied."""

    def stood(self, standing: Standing) -> None:
        """Role, term or leader changed."""

    def fetch_asked(self, source: SnapshotSource) -> None:
        """The core is behind a peer's log and wants its rows."""

    def make_room(self) -> Deferred[None]:
        """The disk is full; fires when what could be cleared is, and a save is worth another try."""

    def failed(self, failure: Failure) -> None:
        """The replica has stopped by itself; nothing was answered since."""


class Replica:
    """Carries values between a core, a machine and the doors.

    Args:
        applied: index of the last entry that ``machine`` contains already.
        witness: told of what was applied, of changes of standing, of fetches wanted and of the end.
    """

    log = Logger()

    def __init__(
        self,
        core: IConsensus,
        machine: IStateMachine,
        log_store: ILogStore,
        disk: IDisk,
        mail: Mail,
        clock: IReactorTime,
        applied: int,
        witness: IWitness,
    ) -> None:
        self._core = core
        self._machine = machine
        self._log_store = log_store
        self._disk = disk
        self._mail = mail
        self._clock = clock
        self._witness = witness
        self._commands = PendingCommands()
        self._reads = PendingReads()
        self._standing = Standing(Role.FOLLOWER, 0, NOBODY)
        self._applied = applied
        self._turn: IDelayedCall | None = None
        self._ticking: IDelayedCall | None = None
        self._again: IDelayedCall | None = None
        self._pumping = False
        self._carrying = False
        self._held = False
        self._holders: list[Deferred[None]] = []
        self._saving_since: float | None = None
        self._stalled = False
        self._stopped = False

    # ── what is asked of it ────────────────────────────────────────────────────────────────────────

    @property
    def standing(self) -> Standing:
        """Role, term and leader as last reported by the core."""
        return self._standing

    @property
    def applied(self) -> int:
        """Index of the last entry applied."""
        return self._applied

    @property
    def leads(self) -> bool:
        """Whether this replica believes to lead and its disk keeps up."""
        return self._standing.role is Role.LEADER and not self._stalled and not self._stopped

    def status(self) -> Status:
        """The core's own words."""
        status: Status = self._core.status()
        return status

    def start(self) -> None:
        """Begin to tick."""
        self._tick()

    def stop(self) -> None:
        """Stop for good: release everybody who waits, take nothing more."""
        if self._stopped:
            return
        self._stopped = True
        for call in (self._turn, self._ticking, self._again):
            if call is not None and call.active():
                call.cancel()
        self._commands.abandon(NOBODY)
        self._reads.release()

    def submit(self, command: bytes) -> Deferred[Any]:
        """Put a command into the log.

        Returns:
            a Deferred with the machine's reply; fails with Overwritten or LeadershipLost (replica/pending).
        Raises:
            NotLeader: nothing entered the log.
            Overloaded: nothing entered the log; too much waits already.
        """
        if self._stopped or self._stalled:
            raise NotLeader
        self._commands.check_room(len(command))
        ticket = self._core.propose(command)
        self.wake()
        return self._commands.add(ticket, len(command))

    def read(self, query: Any) -> Deferred[Any]:
        """Answer a query as of some moment after this call (linearizable).

        Returns:
            a Deferred with the machine's answer; fails with ReadAbandoned.
        Raises:
            NotLeader: ask another node.
        """
        if self._stopped or self._stalled:
            raise NotLeader
        token = self._reads.next_token()
        self._core.read(token)
        self.wake()
        return self._reads.add(token, query)

    def query(self, query: Any) -> Any:
        """Answer from what is applied here, however old; for what is frozen, and for status."""
        return self._machine.query(query)

    def receive(self, body: bytes) -> None:
        """Messages of a peer.

        Raises:
            Malformed: they cannot be read, and nothing was done.
        """
        if self._stopped or self._stalled:
            return
        for message in self._mail.opened(body):
            self.step(message)

    def step(self, message: Any) -> None:
        """A message or a local event for the core."""
        self._core.step(message)
        self.wake()

    def wake(self) -> None:
        """Run the pump in the next turn, once."""
        if self._turn is None and not (self._pumping or self._carrying or self._held or self._stopped):
            self._turn = self._clock.callLater(0, self._pump)

    def hand_over(self) -> Deferred[None]:
        """Give leadership to another; fires when this replica leads no longer, or after a while."""
        done: Deferred[None] = Deferred()
        deadline = self._clock.seconds() + HAND_OVER_SECONDS
        if self.leads and any(peer.voter and peer.active for peer in self.status().peers):
            self.step(TransferLeadership())

        def look() -> None:
            leading = self.leads and any(peer.voter and peer.active for peer in self.status().peers)
            if leading and self._clock.seconds() < deadline:
                self._clock.callLater(TICK_SECONDS, look)
            else:
                done.callback(None)

        look()
        return done

    # ── the pump ───────────────────────────────────────────────────────────────────────────────────

    def hold(self) -> Deferred[None]:
        """Take no Ready until ``release``, because the state is being replaced; fires when none is outstanding."""
        assert not self._held
        self._held = True
        idle: Deferred[None] = Deferred()
        if self._carrying:
            self._holders.append(idle)
        else:
            idle.callback(None)
        return idle

    def release(self, applied: int) -> None:
        """Go on; the machine now stands at ``applied``."""
        self._held = False
        self._applied = applied
        self.wake()

    def _pump(self) -> None:
        self._turn = None
        self._pumping = True
        enough = False
        try:
            while not (enough or self._carrying or self._held or self._stopped):
                ready = self._core.ready()
                if ready is None:
                    break
                self._carry_out(ready)
                enough = _fills_a_turn(ready.committed)
        except Exception:
            self._fail(Failure())
        finally:
            self._pumping = False
        if enough:
            self.wake()

    def _carry_out(self, ready: Ready) -> None:
        self._carrying = True
        if ready.standing is not None:
            self._stand(ready.standing)
        self._mail.post(ready.early)
        if ready.must_save:
            self._save(ready)
        else:
            self._saved(None, ready)

    def _save(self, ready: Ready) -> None:
        if self._saving_since is None:
            self._saving_since = self._clock.seconds()
        saving = self._disk.run(partial(self._log_store.save, ready))
        saving.addCallback(self._saved, ready)
        saving.addErrback(self._unsaved, ready)
        saving.addErrback(self._fail)

    def _unsaved(self, failure: Failure, ready: Ready) -> None:
        """Nothing of it was saved, for certain: the disk is full. Keep still and try again (hazard 28)."""
        failure.trap(SaveRefused)
        if self._stopped:
            return
        if not self._stalled:
            self.log.error("The disk is full: this replica neither leads nor votes until there is room")
            self._stall(DiskFull())
        self._witness.make_room().addCallback(self._save_later, ready).addErrback(self._fail)

    def _save_later(self, _: None, ready: Ready) -> None:
        if not self._stopped:
            self._again = self._clock.callLater(SAVE_AGAIN_SECONDS, self._save, ready)

    def _saved(self, _: None, ready: Ready) -> None:
        """The Ready is durable: do what depends on it, in order."""
        if self._stopped:
            return
        self._saving_since = None
        if self._stalled:
            self._stalled = False
            self.log.info("Saves finish again")
            self._core.step(SaveResumed())
        self._mail.post(ready.messages)
        if ready.committed:
            self._apply(ready.committed)
        for confirmed in ready.reads:
            self._reads.confirm(confirmed.token, confirmed.index)
        for query, done in self._reads.due(self._applied):
            done.callback(self._machine.query(query))
        self._core.advance(ready)
        self._carrying = False
        if ready.fetch is not None:
            self._witness.fetch_asked(ready.fetch)
        holders, self._holders = self._holders, []
        for idle in holders:
            idle.callback(None)
        if not self._pumping:
            self.wake()

    def _apply(self, entries: tuple[Entry, ...]) -> None:
        """Apply all, then answer: an exception in between leaves nothing answered of these entries."""
        settled = []
        for entry in entries:
            assert entry.index == self._applied + 1, "entries are applied without gaps"
            replies = [self._machine.apply(entry.index, command) for command in entry.commands]
            self._applied = entry.index
            settled.append((entry.index, entry.term, replies))
        for index, term, replies in settled:
            self._commands.settle(index, term, replies)
        self._witness.applied(entries)

    # ── standing, time and the end ─────────────────────────────────────────────────────────────────

    def _stand(self, standing: Standing) -> None:
        self.log.info(
            "Standing: {role} in term {term}, leader {leader}",
            role=standing.role.value,
            term=standing.term,
            leader=standing.leader,
        )
        self._standing = standing
        if standing.role is not Role.LEADER:
            self._commands.abandon(standing.leader)
            self._reads.abandon(standing.leader)
        self._witness.stood(standing)

    def _tick(self) -> None:
        self._ticking = self._clock.callLater(TICK_SECONDS, self._tick)
        since = self._saving_since
        if since is not None and not self._stalled and self._clock.seconds() - since > STALL_SECONDS:
            self.log.error("A save has not finished for {seconds:.1f} s", seconds=self._clock.seconds() - since)
            self._stall(SaveStalled())
        self._core.tick()
        self._machine.tidy()
        self.wake()

    def _stall(self, event: DiskFull | SaveStalled) -> None:
        self._stalled = True
        self._core.step(event)
        self._commands.abandon(NOBODY)
        self._reads.release()

    def _fail(self, failure: Failure) -> None:
        """An error whose outcome is unknown: stop here and say nothing more (hazard 27)."""
        if self._stopped:
            return
        self.log.failure("This replica stops", failure)
        self.stop()
        self._witness.failed(failure)


def _fills_a_turn(entries: tuple[Entry, ...]) -> bool:
    """Whether these are most of what may be applied in one turn: others may wait to be heard."""
    return 2 * sum([len(command) for entry in entries for command in entry.commands]) >= APPLY_BYTES_MAX
