"""Every checker can fail: for each name a fault that was planted, and the checker that must say so.

Those of Raft's own rules are shown cores that break them; the others have a small life to judge in which production
code was made worse.
"""

from functools import partial
from random import Random

import msgspec
import pytest
from planted_service import PLANTED as PLANTED_SERVICE
from small_lives import SHORT
from twisted.internet.defer import fail

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.consensus.raft import election, replication
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import Entry, HardState, Restored, TransferLeadership
from twisted_kv.errors import Unavailable
from twisted_kv.machines import controller, migration
from twisted_kv.machines.commands import CONTROLLER_COMMANDS, Administer, Claim, Enroll, Found, Join
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.copies import Copies
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.migration import Arrived, Leaving, Pulling
from twisted_kv.machines.sessions import Sessions
from twisted_kv.machines.shard import Shard
from twisted_kv.replica import checkpoints
from twisted_kv.replica.doors import GroupDoors
from twisted_kv.replica.mail import Mail
from twisted_kv.replica.reconciler import GroupChores, NotYet
from twisted_kv.replica.replica import Replica
from twisted_kv.simulation.faults.knobs import Knobs
from twisted_kv.simulation.faults.nemesis import PLANS, Nemesis
from twisted_kv.simulation.judges import checkers
from twisted_kv.simulation.judges.checkers import CHECKERS, Violation
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.judges.invariants import Watch, WatchedCore, WatchedMachine, exactly_once
from twisted_kv.simulation.lives import life, recovery
from twisted_kv.simulation.lives.cores import CorePlan, live_cores
from twisted_kv.simulation.lives.life import run_seed
from twisted_kv.storage import data_store
from twisted_kv.storage.log_store import LogStore
from twisted_kv.storage.sqlite_file import _connect
from twisted_kv.transport.chunks import Uploads


@pytest.fixture(autouse=True)
def faults_are_logged(logged_errors):
    """Injected faults are; run_seed itself judges what was logged."""
    yield
    logged_errors.clear()


def test_an_unknown_checker_finds_nothing():
    with pytest.raises(AssertionError, match="is no checker"):
        Violation("rumour", "x")


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_checker_can_fail(checker, monkeypatch):
    """Issue: checkers that can fail. Hazards §3 rung 4: seeds without mutants prove little."""
    found = PLANTED[checker](monkeypatch)
    assert checker in {violation.checker for violation in found}, found


# ── Raft's rules, on real cores ────────────────────────────────────────────────────────────────────


def core(watch, node=1, voters=(1,), term=1, entries=()):
    """A watched core of group 1 on a disk that holds this."""
    restored = Restored(HardState(term, 0), entries=tuple(entries))
    return WatchedCore(RaftNode(node, frozenset(voters), restored, Random(node)), watch, 1, f"g1-{node}", 0)


def carry_out(watched):
    """What an owner does."""
    while (ready := watched.ready()) is not None:
        watched.advance(ready)


def lead(watched):
    """A core that is alone in its group comes to lead."""
    for _ in range(20):
        watched.tick()
    carry_out(watched)
    return watched


def two_leaders(monkeypatch):
    watch = Watch()
    lead(core(watch, 1, (1,)))
    lead(core(watch, 2, (2,)))
    return watch.wrong


def leader_that_changes_its_log(monkeypatch):
    watch = Watch()
    leader = lead(core(watch))
    leader.propose(b"x")
    carry_out(leader)
    log = leader._core.log
    forged = [Entry(log.last, log.last_term, (b"y",))]
    log._entries[-1:] = forged
    watch.looked_at(1, leader._core)
    return watch.wrong


def logs_that_have_parted(monkeypatch):
    watch = Watch()
    for node, command in ((1, b"x"), (2, b"y")):
        watched = core(watch, node, (1, 2, 3), 1, [Entry(1, 1, (command,))])
        watch.looked_at(1, watched._core)
    return watch.wrong


def leader_without_what_was_committed(monkeypatch):
    watch = Watch()
    first = lead(core(watch, 1, (1,)))
    first.propose(b"x")
    carry_out(first)
    # Alone with an older log, it wins an election that it should not have won.
    lead(core(watch, 2, (2,), term=5))
    return watch.wrong


def two_entries_at_one_index(monkeypatch):
    watch = Watch()
    watch.committed(1, Entry(1, 1, (b"x",)), "g1-1")
    watch.committed(1, Entry(1, 2, (b"x",)), "g1-2")
    return watch.wrong


# ── small groups, of cores alone ───────────────────────────────────────────────────────────────────


def cores_lived(monkeypatch, *patch):
    monkeypatch.setattr(*patch)
    reports = (live_cores(seed, CorePlan("cores", turns=(200,), times=(1,))) for seed in range(1, 41))
    return next((report.violations for report in reports if report.violations), ())


def commit_what_is_not_saved(monkeypatch):
    return cores_lived(monkeypatch, replication, "committed_index", lambda acked, voters: max(acked.values()))


def ask_nobody_first(monkeypatch):
    return cores_lived(monkeypatch, election, "ask_pre_votes", partial(election.campaign, transfer=False))


def lead_without_a_quorum(monkeypatch):
    return cores_lived(monkeypatch, election, "check_quorum", lambda state, role: None)


# ── lives in which something was made worse ────────────────────────────────────────────────────────


def lived(monkeypatch, plan, seeds=range(1, 7), **shape):
    """What the first of some lives that are not ok was blamed for."""
    monkeypatch.setattr(life, "draw_shape", lambda random, plan: msgspec.structs.replace(SHORT, **shape))
    for seed in seeds:
        report = run_seed(seed, PLANS[plan])
        if report.violations:
            return report.violations
    return ()


def forget_the_log(monkeypatch):
    """Hazard 2: what the last save added is not there after the restart."""
    restore = LogStore.restore

    def restored(self):
        found = restore(self)
        return msgspec.structs.replace(found, entries=found.entries[:-1])

    monkeypatch.setattr(LogStore, "restore", restored)
    return lived(monkeypatch, "calm", ending="the power fails", log_bytes_max=1 << 20, seconds=1.0)


def answer_before_saving(monkeypatch):
    """Hazard 16."""
    save = Replica._save

    def early(self, ready):
        self._mail.post(ready.messages)
        save(self, ready)

    monkeypatch.setattr(Replica, "_save", early)
    return lived(monkeypatch, "calm", seconds=1.0)


def leave_rows_out(monkeypatch):
    """Hazard 18: a checkpoint claims an index and lacks rows of it."""
    slices = checkpoints.slices
    monkeypatch.setattr(checkpoints, "slices", lambda changes: (rows[1:] for rows in slices(changes)))
    return lived(monkeypatch, "crashes", log_bytes_max=300)


def let_readers_write(monkeypatch):
    """Hazard 36."""
    monkeypatch.setattr(data_store, "open_reader", lambda path: _connect(path, "rw"))
    return lived(monkeypatch, "rows", log_bytes_max=300)


def keep_what_differs(monkeypatch):
    """Hazard 20: every replica has its own idea of its state."""
    monkeypatch.setattr(GroupMachine, "digest", lambda self: id(self))
    return lived(monkeypatch, "calm", seconds=1.0)


def serve_what_is_leaving(monkeypatch):
    """Contract §5.4."""
    turn = Copies.turn

    def turned(self, shard, copy, num, state):
        served = self.serving.get(shard)
        turn(self, shard, copy, num, state)
        if isinstance(state, Leaving) and served is not None:
            self.serving[shard] = served

    monkeypatch.setattr(Copies, "turn", turned)
    return lived(monkeypatch, "churn")


def serve_nothing_while_a_shard_moves(monkeypatch):
    """Hazard 44."""
    write = GroupMachine._write

    def wrote(self, command):
        if not self._held_back():
            return write(self, command)
        return tuple(self._elsewhere(shard) for shard in [0] * len(command.operations))

    monkeypatch.setattr(GroupMachine, "_write", wrote)
    return lived(monkeypatch, "churn")


def take_in_any_chunk(monkeypatch):
    """Scenario 28."""

    def goes_on(state, event):
        return Pulling(state.source, state.endpoints, state.chunk + 1, event.cursor, event.level)

    monkeypatch.setitem(migration.TRANSITIONS, (Pulling, Arrived), goes_on)
    return lived(monkeypatch, "echoes", seconds=6.0, fidgets=True, knobs=Knobs(chunk_bytes=100))


def leave_deletions_out(monkeypatch):
    """Decisions/0007: what is deleted while it is copied stays at the new owner."""
    install = Shard.install
    monkeypatch.setattr(
        Shard, "install", lambda self, rows: install(self, [row for row in rows if row.value is not None])
    )
    return lived(monkeypatch, "moves", fidgets=True, full_mix=True, knobs=Knobs(chunk_bytes=100, inline_bytes=-1))


def log_what_belongs_elsewhere(monkeypatch):
    """Hazard 26."""
    monkeypatch.setattr(GroupMachine, "turned_away", lambda self, command: None)
    return lived(monkeypatch, "churn")


def keep_an_id(monkeypatch):
    """Hazard 42."""
    lost = Clerk.session_lost

    def session_lost(self, session):
        nonce = self._nonce
        lost(self, session)
        self._nonce = nonce

    monkeypatch.setattr(Clerk, "session_lost", session_lost)
    return lived(monkeypatch, "sessions", ramblers=4, keys=1, knobs=Knobs(sessions_max=2))


def spread_anew(monkeypatch):
    """Scenario 38: most shards move when one group comes or goes."""

    def spread(shards, gids):
        order = sorted(gids) or [0]
        return tuple(order[shard % len(order)] for shard in range(len(shards)))

    monkeypatch.setattr(controller, "rebalance", spread)
    return lived(monkeypatch, "churn", groups={100: 3, 101: 3, 102: 3})


def let_the_last_claim_win(monkeypatch):
    """Hazard 37."""
    monkeypatch.setattr(ControllerMachine, "_claim_member", lambda self, member, identity: identity)
    watch = Watch()
    machine = WatchedMachine(ControllerMachine(), watch, 0, "ctl-1")
    joins = Administer(1, 1, 1, Join(((7, ("sim:x",)),)))
    commands = (Found("c", 4, 100), Enroll(bytes(16)), joins, Claim(7, 1, "first"), Claim(7, 1, "second"))
    for index, command in enumerate(commands, 1):
        machine.apply(index, CONTROLLER_COMMANDS.encode(command))
    return watch.wrong


def show_an_old_configuration(monkeypatch):
    """Hazard 22, scenario 43."""
    query = ControllerClerk.query
    monkeypatch.setattr(ControllerClerk, "query", lambda self, num, *, timeout: query(self, 0, timeout=timeout))
    return lived(monkeypatch, "calm", seconds=1.0)


def call_a_change_refused(monkeypatch):
    """Hazard 40."""
    join = ControllerClerk.join

    def joined(self, groups, *, timeout):
        def lie(_):
            raise Unavailable("nobody knows")

        return join(self, groups, timeout=timeout).addCallback(lie)

    monkeypatch.setattr(ControllerClerk, "join", joined)
    return lived(monkeypatch, "calm", seconds=1.0)


def scan_a_strange_key(monkeypatch):
    scan = Clerk.scan
    more = msgspec.structs.replace

    def scanned(self, *arguments, timeout):
        def shown(chunk):
            return more(chunk, keys=(*chunk.keys, "~"), values=(*chunk.values, "x"))

        return scan(self, *arguments, timeout=timeout).addCallback(shown)

    monkeypatch.setattr(Clerk, "scan", scanned)
    return lived(monkeypatch, "calm", seconds=1.0)


def break_in_apply(monkeypatch):
    apply = GroupMachine.apply

    def applied(self, index, command):
        assert index != 20, "twenty is too many"
        return apply(self, index, command)

    monkeypatch.setattr(GroupMachine, "apply", applied)
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 3.0)
    return lived(monkeypatch, "calm", seconds=1.0)


def open_a_door_that_breaks(monkeypatch):
    monkeypatch.setattr(GroupDoors, "read", lambda self, body: 1 / 0)
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 3.0)
    return lived(monkeypatch, "calm", seconds=1.0)


def forget_sessions(monkeypatch):
    """Hazard 40: a repeat is executed again."""
    monkeypatch.setattr(Sessions, "recall", lambda *_: None)
    monkeypatch.setattr(Sessions, "record", lambda *_: None)
    return lived(monkeypatch, "lossy", owners=3)


def garble_what_is_read(monkeypatch):
    get = Clerk.get
    garbled = lambda value: f"{value}?"  # noqa: E731
    monkeypatch.setattr(Clerk, "get", lambda *args, **named: get(*args, **named).addCallback(garbled))
    return lived(monkeypatch, "calm", seconds=1.0)


def double_what_was_appended(monkeypatch):
    history = History()
    history.succeeded(history.begin("a", "append", "k", "<1>", 0.0), None)
    return exactly_once(history, {"k": "<1><1>"})


def give_up_searching(monkeypatch):
    monkeypatch.setattr(life, "findings", partial(life.findings, steps_max=1))
    return lived(monkeypatch, "calm", seconds=1.0)


def lose_what_was_acknowledged(monkeypatch):
    history = History()
    history.succeeded(history.begin("a", "append", "k", "<1>", 0.0), None)
    return exactly_once(history, {"k": ""})


def lose_calls(monkeypatch):
    """Scenario §2.2-4: nothing may hang."""
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 1.0)
    monkeypatch.setattr(Nemesis, "calm", lambda self: [self._victim.kill(name) for name in self._victim.alive])
    return lived(monkeypatch, "lossy", seconds=1.0)


def refuse_to_read(monkeypatch):
    get = Clerk.get

    def got(self, key, default="", *, timeout=10.0):
        if timeout == recovery.RETURN_SECONDS:
            return fail(Unavailable("closed for today"))
        return get(self, key, default, timeout=timeout)

    monkeypatch.setattr(Clerk, "get", got)
    return lived(monkeypatch, "calm", seconds=1.0)


def never_drop(monkeypatch):
    """A shard that moved is never deleted where it was."""

    async def ask_drop(self, chore):
        raise NotYet

    monkeypatch.setattr(GroupChores, "ask_drop", ask_drop)
    monkeypatch.setattr(recovery, "RETURN_SECONDS", 5.0)
    return lived(monkeypatch, "churn")


def hand_over_all_the_time(monkeypatch):
    tick = Replica._tick
    ticks = {}

    def ticked(self):
        tick(self)
        ticks[self] = ticks.get(self, 0) + 1
        if self.leads and ticks[self] % 30 == 0:
            self.step(TransferLeadership())

    monkeypatch.setattr(Replica, "_tick", ticked)
    return lived(monkeypatch, "lossy", seconds=1.0)


def say_everything_four_times(monkeypatch):
    post = Mail.post
    monkeypatch.setattr(Mail, "post", lambda self, messages: [post(self, messages) for _ in range(4)])
    return lived(monkeypatch, "lossy", seconds=1.0)


def fail_now_and_then(monkeypatch):
    calls = iter(range(1_000_000))
    put = Clerk.append

    def appended(self, key, value, *, timeout=10.0):
        return fail(Unavailable("out")) if next(calls) % 7 == 6 else put(self, key, value, timeout=timeout)

    monkeypatch.setattr(Clerk, "append", appended)
    return lived(monkeypatch, "calm", seconds=1.0)


def forget_how_to_calm(monkeypatch):
    def calm(self):
        raise AssertionError("no")

    monkeypatch.setattr(Nemesis, "calm", calm)
    return lived(monkeypatch, "calm", seconds=1.0)


def keep_memory_of_transfers(monkeypatch):
    monkeypatch.setattr(Uploads, "release", lambda self, body: None)
    return lived(monkeypatch, "calm", wire=True, knobs=Knobs(part_bytes=150))


PLANTED = {
    **PLANTED_SERVICE,
    checkers.ONE_LEADER: two_leaders,
    checkers.APPEND_ONLY: leader_that_changes_its_log,
    checkers.LOG_MATCHING: logs_that_have_parted,
    checkers.COMPLETE: leader_without_what_was_committed,
    checkers.ONE_ORDER: two_entries_at_one_index,
    checkers.SAVED_FIRST: answer_before_saving,
    checkers.NOT_FORGOTTEN: forget_the_log,
    checkers.AS_WRITTEN: leave_rows_out,
    checkers.ONE_WRITER: let_readers_write,
    checkers.KEPT: commit_what_is_not_saved,
    checkers.TERM_STAYS: ask_nobody_first,
    checkers.STALE_LEADER: lead_without_a_quorum,
    checkers.EQUAL: keep_what_differs,
    checkers.ONE_OWNER: serve_what_is_leaving,
    checkers.BY_THE_BOOK: serve_nothing_while_a_shard_moves,
    checkers.IN_STEP: take_in_any_chunk,
    checkers.COPIED: leave_deletions_out,
    checkers.WORTH_LOGGING: log_what_belongs_elsewhere,
    checkers.FRESH_ID: keep_an_id,
    checkers.STOPPED: break_in_apply,
    checkers.LOGGED: break_in_apply,
    checkers.DOOR: open_a_door_that_breaks,
    checkers.CONFIGURATIONS: spread_anew,
    checkers.FIRST_CLAIM: let_the_last_claim_win,
    checkers.NEWEST: show_an_old_configuration,
    checkers.CHANGED_ONCE: call_a_change_refused,
    checkers.LINEARIZABLE: forget_sessions,
    checkers.EXACTLY_ONCE: double_what_was_appended,
    checkers.TOLD: garble_what_is_read,
    checkers.DECIDED: give_up_searching,
    checkers.DURABLE: lose_what_was_acknowledged,
    checkers.SCANNED: scan_a_strange_key,
    checkers.CALLS: lose_calls,
    checkers.READABLE: refuse_to_read,
    checkers.SETTLES: never_drop,
    checkers.ONE_ELECTION: hand_over_all_the_time,
    checkers.QUIET: say_everything_four_times,
    checkers.LEFT: keep_memory_of_transfers,
    checkers.GENTLE: fail_now_and_then,
    checkers.BROKEN: forget_how_to_calm,
}
