"""Three groups, scripted configurations, a network that repeats and reorders: what must hold at every step."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from machine_scripts import Group, History, append, carry_out, key_in, settle

from twisted_kv.machines.commands import Done, Expired, GroupCommand, NextConfiguration, Operation, Write, WrongGroup

SHARDS = 3
GIDS = (1, 2, 3)
KEYS = {shard: [key_in(shard, SHARDS, nth) for nth in range(2)] for shard in range(SHARDS)}


class Moves(RuleBasedStateMachine):
    """Scenarios §3.3-21 to 33, §3.2-11 to 17; hazards 26, 32, 41, 43, 44.

    The truth is what was answered for the first time; each shard has a client with a session of its own, who
    may lose an answer and then asks again, anywhere, with the same sequence.
    """

    def __init__(self):
        super().__init__()
        self.history = History(SHARDS)
        self.groups = {gid: Group(gid) for gid in GIDS}
        self.truth: dict[str, str] = {}
        self.answers: dict[tuple[int, int], object] = {}
        self.session: dict[int, int] = {}
        self.sequence = dict.fromkeys(range(SHARDS), 0)
        self.pending: dict[int, Operation] = {}
        self.limbo: list[tuple[int, GroupCommand]] = []
        self.history.assign(1, 2, 3)
        settle(self.groups, self.history)

    # ── the world moves ────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.history.newest.num < 12)
    @rule(owners=st.tuples(*[st.sampled_from(GIDS)] * SHARDS), all_leave=st.integers(0, 5))
    def reconfigure(self, owners, all_leave):
        self.history.assign(*(owners if all_leave else (0,) * SHARDS))

    @rule(gid=st.sampled_from(GIDS), position=st.integers(0, 8))
    def carry_out_a_chore(self, gid, position):
        """Chores in any order; what was logged may come again, any time later."""
        chores = self.groups[gid].machine.chores()
        if chores:
            chore = chores[position % len(chores)]
            logged = carry_out(self.groups, self.groups[gid], chore, self.history)
            self.limbo += [(gid, command) for command in logged]

    @rule(order=st.lists(st.tuples(st.sampled_from(GIDS), st.integers(0, 3)), min_size=4, max_size=20))
    def carry_out_many_chores(self, order):
        for gid, position in order:
            self.carry_out_a_chore(gid, position)

    @precondition(lambda self: self.limbo)
    @rule(data=st.data())
    def repeat(self, data):
        """A command that stood in the log once stands there again: of a rival leader, or late."""
        gid, command = self.limbo[data.draw(st.integers(0, len(self.limbo) - 1))]
        outcomes = self.groups[gid].apply(command)
        if isinstance(command, Write):
            self.answered(command.operations[0], outcomes[0])

    @rule(gid=st.sampled_from(GIDS))
    def checkpoint(self, gid):
        self.groups[gid].checkpoint()

    @rule(gid=st.sampled_from(GIDS))
    def restart(self, gid):
        self.groups[gid].restart()

    # ── clients ────────────────────────────────────────────────────────────────────────────────────

    @rule(
        calls=st.lists(
            st.tuples(
                st.integers(0, SHARDS - 1), st.integers(0, 1), st.sampled_from("aaaahd"), st.sampled_from((0, 0, 1))
            ),
            min_size=3,
            max_size=12,
        )
    )
    def write_many(self, calls):
        for call in calls:
            self.write(*call)

    def write(self, shard, nth, verb, lost):
        """One operation at a time per shard, sent to every group; the answer may be lost."""
        if shard not in self.session and not self.open(shard):
            return
        if shard not in self.pending:
            sequence = self.sequence[shard] = self.sequence[shard] + 1
            key, token = KEYS[shard][nth], f"<{shard}.{sequence}>"
            # Every other operation still wants the answer before it.
            floor = max(1, sequence - sequence % 2)
            operation = append(key, token, sequence, floor, self.session[shard])
            if verb != "a":
                operation = Operation(verb, key, None if verb == "d" else token, self.session[shard], sequence, floor)
            self.pending[shard] = operation
        operation = self.pending[shard]
        outcomes = {}
        for gid in GIDS:
            (outcomes[gid],) = self.groups[gid].write(operation)
            self.limbo.append((gid, Write((operation,))))
            self.answered(operation, outcomes[gid])
        done = [outcome for outcome in outcomes.values() if not isinstance(outcome, WrongGroup)]
        assert len(done) <= 1, "two groups served one shard"
        assert not any(isinstance(outcome, Expired) for outcome in done)
        if done and not lost:
            del self.pending[shard]

    def open(self, shard):
        for gid in GIDS:
            outcome = self.groups[gid].open(shard)
            if isinstance(outcome, Done):
                self.session[shard] = outcome.value
        return shard in self.session

    def answered(self, operation, outcome):
        """The first answer is the truth; every other one is the same, or too late, or from elsewhere."""
        if not isinstance(outcome, Done):
            return
        shard = next(shard for shard, keys in KEYS.items() if operation.key in keys)
        name = (shard, operation.sequence)
        if name in self.answers:
            assert self.answers[name] == outcome
            return
        old = self.truth.get(operation.key)
        self.answers[name] = outcome
        if operation.verb == "d":
            assert outcome == Done(old is not None)
            self.truth.pop(operation.key, None)
        elif operation.verb == "h":
            assert outcome == Done(old or "")
            # The hash itself is test_operations' business; what the group stored becomes the truth.
            (self.truth[operation.key],) = [
                value for value in (self.value(gid, operation.key) for gid in GIDS) if value is not None
            ]
        else:
            self.truth[operation.key] = (old or "") + operation.value

    def value(self, gid, key):
        outcome = self.groups[gid].get(key)
        return outcome.value if isinstance(outcome, Done) else None

    # ── what must hold ─────────────────────────────────────────────────────────────────────────────

    @invariant()
    def at_most_one_group_serves_a_shard(self):
        """Contract §5.4."""
        served = [
            shard
            for group in self.groups.values()
            for (shard, _), phase in group.phases().items()
            if phase in ("serving", "handing")
        ]
        assert len(served) == len(set(served))

    @invariant()
    def whoever_serves_has_every_acknowledged_write(self):
        """Contract §5.1, 5.2."""
        for keys in KEYS.values():
            for key in keys:
                for group in self.groups.values():
                    outcome = group.get(key)
                    assert outcome == Done(self.truth.get(key)) or isinstance(outcome, WrongGroup)

    def teardown(self):
        """Then calm: everything arrives, nothing is left behind, and after all left and one joined it is all there."""
        settle(self.groups, self.history)
        self.history.assign(*(0,) * SHARDS)
        settle(self.groups, self.history)
        self.history.assign(*(1,) * SHARDS)
        settle(self.groups, self.history)
        for keys in KEYS.values():
            for key in keys:
                assert self.groups[1].get(key) == Done(self.truth.get(key))
        assert self.groups[2].phases() == self.groups[3].phases() == {}
        for shard, operation in self.pending.items():
            (outcome,) = self.groups[1].write(operation)
            assert outcome == self.answers.get((shard, operation.sequence), outcome)
            self.answered(operation, outcome)
        self.whoever_serves_has_every_acknowledged_write()
        for group in self.groups.values():
            assert group.machine.chores() == (NextConfiguration(self.history.newest.num + 1),)
            group.checkpoint()
            group.restart()


TestMoves = Moves.TestCase
TestMoves.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True)
