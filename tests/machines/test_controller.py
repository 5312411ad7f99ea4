"""The controller's machine: what administrators ask, what they get, and what stays the same for ever."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from twisted_kv.codec import Malformed
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    Administer,
    Change,
    Claim,
    ConfigurationAnswer,
    Configured,
    Done,
    Enroll,
    Expired,
    Found,
    FoundCluster,
    Join,
    Leave,
    Move,
    QueryConfiguration,
    Readdress,
    Refused,
)
from twisted_kv.machines.configuration import Configuration, Holder, Member, empty_configuration
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.rebalance import rebalance
from twisted_kv.machines.rows import MACHINE_SHARD, Row

SERVERS = {gid: tuple(f"tcp:10.0.{gid}.{node}:7000" for node in (1, 2, 3)) for gid in range(1, 30)}


class Cluster:
    """A machine with an administrator: fills in indices, sessions and sequences.

    A second machine takes the same commands, and restarts from its rows after each; both must stay equal.
    """

    def __init__(self, shards: int = 10) -> None:
        self.machine = ControllerMachine()
        self.shadow = ControllerMachine()
        self.store: dict[tuple[int, int, str, str], Any] = {}
        self.index = 0
        self.apply(Found("c" * 32, shards, 1000))
        self.session = self.apply(Enroll(b"admin")).value
        self.sequences = count(1)

    def apply(self, command: Any) -> Any:
        self.index += 1
        sealed = CONTROLLER_COMMANDS.encode(command)
        answer = self.machine.apply(self.index, sealed)
        assert self.shadow.apply(self.index, sealed) == answer
        self.restart_shadow()
        return answer

    def restart_shadow(self) -> None:
        changes = self.shadow.take_changes()
        assert changes.dropped == []
        for key, value in changes.rows.items():
            self.store.pop(key, None) if value is None else self.store.update({key: value})
        self.shadow = ControllerMachine()
        self.shadow.clear()
        rows = [Row(*key, value) for key, value in sorted(self.store.items())]
        assert all(row.shard == MACHINE_SHARD for row in rows)
        self.shadow.load(rows[: len(rows) // 2])
        self.shadow.load(rows[len(rows) // 2 :])
        assert self.shadow.digest() == self.machine.digest()
        assert self.shadow.status() == self.machine.status()

    def administer(self, change: Change) -> Any:
        sequence = next(self.sequences)
        return self.apply(Administer(self.session, sequence, sequence, change))

    def changed(self, change: Change) -> Configuration:
        answer = self.administer(change)
        assert isinstance(answer, Configured), answer
        assert answer.configuration == self.query(-1), "the newest one is what a change answers"
        return answer.configuration

    def refused(self, change: Change, error: str) -> None:
        """The change is refused, and nothing at all became of it."""
        before = self.query(-1)
        answer = self.administer(change)
        assert isinstance(answer, Refused) and answer.error == error, answer
        assert answer.text
        assert self.query(-1) is before

    def query(self, num: int) -> Configuration:
        answer = self.machine.query(QueryConfiguration(num))
        assert isinstance(answer, ConfigurationAnswer)
        return answer.configuration

    def check(self, *gids: int) -> None:
        """The ``check`` of scenario §2.3."""
        configuration = self.query(-1)
        assert {*configuration.groups} == {*gids}
        if gids:
            owned = Counter(configuration.shards)
            assert {*owned} <= {*gids}
            assert max(owned[gid] for gid in gids) - min(owned[gid] for gid in gids) <= 1
        else:
            assert {*configuration.shards} == {0}


def join(*gids: int, servers: Mapping[int, tuple[str, ...]] = SERVERS, **identities: str) -> Join:
    named = tuple((int(name[1:]), identity) for name, identity in sorted(identities.items()))
    return Join(tuple((gid, servers.get(gid, (f"tcp:g{gid}:1",))) for gid in gids), named)


def moved(before: Configuration, after: Configuration) -> list[tuple[int, int]]:
    return [(old, new) for old, new in zip(before.shards, after.shards, strict=True) if old != new]


# ── the checks of the shard controller's suite, scenario §2.3 ──────────────────────────────────────


def test_basic_leave_and_join() -> None:
    """Scenario §2.3 TestBasic-1."""
    cluster = Cluster()
    cluster.check()
    assert cluster.query(-1).num == 0
    assert cluster.changed(join(1)).num == 1
    cluster.check(1)
    configuration = cluster.changed(join(2))
    cluster.check(1, 2)
    assert dict(configuration.groups) == {1: SERVERS[1], 2: SERVERS[2]}
    cluster.changed(Leave((1,)))
    cluster.check(2)
    cluster.changed(Leave((2,)))
    cluster.check()


def test_historical_queries() -> None:
    """Scenarios §2.3 TestBasic-2 and §3.4-42: every number answers the same, before and after a restart."""
    cluster = Cluster()
    seen = [cluster.query(0)]
    for change in (join(1), join(2), Move(0, 2), Leave((1,)), Leave((2,)), join(1)):
        seen.append(cluster.changed(change))
        assert [configuration.num for configuration in seen] == [*range(len(seen))], "consecutive, §3.4-45"
        for machine in (cluster.machine, cluster.shadow):
            answers = [machine.query(QueryConfiguration(num)) for num in range(len(seen))]
            assert [answer.configuration for answer in answers] == seen


def test_move() -> None:
    """Scenario §2.3 TestBasic-3: each move that changes an owner raises the number; nothing else moves."""
    cluster = Cluster()
    cluster.changed(join(3))
    cluster.changed(join(4))
    for shard in range(10):
        before = cluster.query(-1)
        gid = 3 if shard < 5 else 4
        after = cluster.changed(Move(shard, gid))
        assert after.num == before.num + (before.shards[shard] != gid)
        assert len(moved(before, after)) <= 1
    assert cluster.query(-1).shards == (3,) * 5 + (4,) * 5
    cluster.changed(Move(5, 3))
    assert cluster.changed(Move(6, 3)).shards == (3,) * 7 + (4,) * 3, "what was moved is not spread again"
    cluster.changed(Leave((3,)))
    cluster.changed(Leave((4,)))
    cluster.check()


def test_concurrent_leave_and_join() -> None:
    """Scenario §2.3 TestBasic-4: ten administrators at once, their changes interleaved; also §2.7 with twenty."""
    for workers in (10, 20):
        cluster = Cluster()
        sessions = [cluster.apply(Enroll(bytes([worker]))).value for worker in range(workers)]
        assert len({*sessions}) == workers
        gids = [100 + 10 * worker for worker in range(workers)]
        for step in range(3):
            for worker, gid in enumerate(gids):
                change = (join(gid + 1000), join(gid), Leave((gid + 1000,)))[step]
                assert isinstance(cluster.apply(Administer(sessions[worker], step + 1, step + 1, change)), Configured)
        cluster.check(*gids)


def test_minimal_transfers_after_joins_and_leaves() -> None:
    """Scenario §2.3 TestBasic-5, 6, on groups that are there: nothing moves between those that stay."""
    cluster = Cluster(shards=128)
    for gid in range(1, 11):
        cluster.changed(join(gid))
    for gid in range(11, 16):
        before = cluster.query(-1)
        assert {new for _, new in moved(before, cluster.changed(join(gid)))} == {gid}
    for gid in range(11, 16):
        before = cluster.query(-1)
        assert {old for old, _ in moved(before, cluster.changed(Leave((gid,))))} == {gid}


def test_several_groups_in_one_call() -> None:
    """Scenarios §2.3 TestMulti and §3.3-35: one configuration."""
    cluster = Cluster()
    assert cluster.changed(join(1, 2)).num == 1
    cluster.check(1, 2)
    assert cluster.changed(join(3)).num == 2
    assert cluster.query(-1).groups == {gid: SERVERS[gid] for gid in (1, 2, 3)}
    assert cluster.changed(Leave((1, 3))).num == 3
    cluster.check(2)
    cluster.changed(Leave((2,)))
    cluster.check()


def test_concurrent_joins_and_leaves_of_several() -> None:
    """Scenario §2.3 TestMulti: ten administrators with three groups each, two of which leave again."""
    cluster = Cluster()
    gids = range(1000, 1010)
    for gid in gids:
        cluster.changed(join(gid, gid + 1000, gid + 2000))
    for gid in reversed(gids):
        cluster.changed(Leave((gid + 1000, gid + 2000)))
    cluster.check(*gids)


def test_minimal_transfers_of_several() -> None:
    """Scenario §2.3 TestMulti, on groups that are there."""
    cluster = Cluster(shards=128)
    cluster.changed(join(*range(1, 11)))
    before = cluster.query(-1)
    joined = cluster.changed(join(*range(11, 16)))
    assert {new for _, new in moved(before, joined)} == {*range(11, 16)}
    left = cluster.changed(Leave((*range(11, 16),)))
    assert {old for old, _ in moved(joined, left)} == {*range(11, 16)}


def test_minimal_again() -> None:
    """Scenario §2.3 TestMinimalAgain, with its bound: at most 10/3 + 1 shards."""
    cluster = Cluster()
    cluster.changed(join(1))
    first = cluster.changed(join(2))
    second = cluster.changed(join(3))
    assert {new for _, new in moved(first, second)} == {3} and len(moved(first, second)) <= 4
    third = cluster.changed(Leave((1,)))
    assert {old for old, _ in moved(second, third)} == {1} and len(moved(second, third)) <= 4


def test_hazard_45_the_same_on_all_replicas() -> None:
    """Hazard 45; §2.3 TestMulti "same config on servers": groups in any order, one result. (Every other test here
    compares with a machine that restarts after each command.)"""
    orders = [(5, 3, 9, 1), (9, 1, 5, 3), (1, 3, 5, 9)]
    tables = set()
    for order in orders:
        cluster = Cluster(shards=128)
        cluster.changed(join(7))
        cluster.changed(join(*order))
        cluster.changed(Leave(order[:2]) if order[:2] == (5, 3) else Leave((3, 5)))
        tables.add((cluster.query(-1), cluster.machine.digest()))
    assert len({configuration for configuration, _ in tables}) == 1


# ── changes that change nothing, and changes that are refused: contract §5.7 ───────────────────────


def test_an_identical_join_changes_nothing() -> None:
    """Scenarios §2.7 and §3.4-39."""
    cluster = Cluster()
    before = cluster.changed(join(1, 2))
    assert cluster.changed(join(2)) is before
    assert cluster.changed(join(1, 2)) is before
    assert cluster.changed(join()) is before


def test_an_identical_join_does_not_undo_a_move() -> None:
    """Nothing means nothing: no rebalancing either."""
    cluster = Cluster()
    cluster.changed(join(1, 2))
    for shard in range(10):
        cluster.changed(Move(shard, 1))
    before = cluster.query(-1)
    assert cluster.changed(join(1, 2)) is before
    assert cluster.changed(Leave((8,))) is before
    assert cluster.changed(join(3)).num == before.num + 1
    cluster.check(1, 2, 3)


def test_a_join_of_known_and_new_adds_the_new() -> None:
    cluster = Cluster()
    cluster.changed(join(1))
    configuration = cluster.changed(join(1, 2))
    cluster.check(1, 2)
    assert [(member.gid, member.joined) for member in configuration.members] == [(1, 1), (2, 2)]


GOOD = (9, SERVERS[9])


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        ((GOOD, (1, ("tcp:elsewhere:1",))), "GroupExists"),
        ((GOOD, (1, SERVERS[1][::-1])), "GroupExists"),
        ((GOOD, (0, SERVERS[2])), "BadRequest"),
        ((GOOD, (-1, SERVERS[2])), "BadRequest"),
        ((GOOD, (2, ())), "BadRequest"),
        ((GOOD, (2, ("tcp:a:1", ""))), "BadRequest"),
        ((GOOD, GOOD), "BadRequest"),
        ((GOOD, (9, ("tcp:a:1",))), "BadRequest"),
    ],
)
def test_a_join_with_one_bad_part_changes_nothing_at_all(groups: Any, error: str) -> None:
    """Contract §5.7."""
    cluster = Cluster()
    cluster.changed(join(1))
    cluster.refused(Join(groups), error)
    cluster.refused(Join(groups[::-1], ((9, "identity"),)), error)
    assert cluster.changed(Join((GOOD,))).num == 2
    assert cluster.machine.query(QueryConfiguration(-1, 9)).claimed_by == "", "a refused join claims nothing"


def test_a_leave_of_unknown_gids_changes_nothing() -> None:
    """Scenarios §2.7 and §3.4-40; of several, the known ones leave."""
    cluster = Cluster()
    before = cluster.changed(join(1, 2))
    assert cluster.changed(Leave((3, -7, 0))) is before
    assert cluster.changed(Leave(())) is before
    assert cluster.changed(Leave((3, 1, 1))).num == before.num + 1
    cluster.check(2)
    after = cluster.query(-1)
    assert cluster.changed(Leave((1,))) is after


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Move(0, 7), "NoSuchGroup"),
        (Move(0, 0), "NoSuchGroup"),
        (Move(10, 1), "NoSuchShard"),
        (Move(-1, 1), "NoSuchShard"),
        (Readdress(7, ("tcp:a:1",)), "NoSuchGroup"),
        (Readdress(1, ()), "BadRequest"),
        (Readdress(1, ("",)), "BadRequest"),
    ],
)
def test_what_cannot_be_is_refused(change: Change, error: str) -> None:
    """Scenario §3.4-41."""
    cluster = Cluster()
    cluster.changed(join(1, 2))
    cluster.changed(Leave((2,)))
    cluster.refused(change, error)


def test_a_move_to_the_present_owner_changes_nothing() -> None:
    """Scenario §3.4-41."""
    cluster = Cluster()
    before = cluster.changed(join(1, 2))
    assert cluster.changed(Move(0, before.shards[0])) is before


def test_readdress_moves_nothing() -> None:
    """Contract §2: new endpoints, a new configuration, no moves; the member is the same one."""
    cluster = Cluster()
    before = cluster.changed(join(1, 2))
    assert cluster.changed(Readdress(1, SERVERS[1])) is before
    after = cluster.changed(Readdress(1, ("tcp:new:1",)))
    assert after.num == before.num + 1 and after.groups == {1: ("tcp:new:1",), 2: SERVERS[2]}
    assert (after.shards, after.holders, after.sources) == (before.shards, before.holders, before.sources)
    assert after.member(1) == Member(1, 1, ("tcp:new:1",))
    assert after.endpoints_of(Holder(1, 1, 1)) == ("tcp:new:1",)
    cluster.refused(join(1), "GroupExists")


def test_a_group_that_left_is_found_again_by_readdress() -> None:
    """What it holds is pulled from it: if it moved house, or never was where the join said, others wait for ever."""
    cluster = Cluster()
    cluster.changed(join(1))
    before = cluster.changed(Leave((1,)))
    after = cluster.changed(Readdress(1, ("tcp:new:1",)))
    assert after.num == before.num + 1 and after.groups == {}
    assert after.endpoints_of(Holder(1, 1, 1)) == ("tcp:new:1",)
    assert cluster.changed(Readdress(1, ("tcp:new:1",))) is after
    cluster.refused(Readdress(2, ("tcp:new:1",)), "NoSuchGroup")


def test_which_configuration_a_number_asks_for() -> None:
    """Contract §5.7; scenario §3.4-42."""
    cluster = Cluster()
    newest = cluster.changed(join(1))
    assert cluster.query(-1) is newest and cluster.query(1) is newest and cluster.query(10**15) is newest
    assert cluster.query(0) == empty_configuration(10, 1000)
    for num in (-2, -100):
        answer = cluster.machine.query(QueryConfiguration(num))
        assert isinstance(answer, Refused) and answer.error == "BadRequest"


# ── who held what ──────────────────────────────────────────────────────────────────────────────────


def test_all_groups_leave_and_another_finds_the_data() -> None:
    """Scenario §3.3-32; contract §5.6."""
    cluster = Cluster()
    full = cluster.changed(join(1))
    nobody = cluster.changed(Leave((1,)))
    assert nobody.holders == full.holders and nobody.former == full.members
    gained = cluster.changed(join(2))
    assert gained.sources == full.holders and gained.former == full.members
    assert gained.endpoints_of(Holder(1, 1, 1)) == SERVERS[1]


def test_a_gid_joins_again_with_other_servers() -> None:
    """Scenarios §3.3-33, 34; M7: another member, that pulls from the servers of the one before."""
    cluster = Cluster()
    cluster.changed(join(1))
    cluster.changed(Leave((1,)))
    again = cluster.changed(Join(((1, ("tcp:new:1",)),)))
    assert again.members == (Member(1, 3, ("tcp:new:1",)),)
    assert again.holders == (Holder(1, 3, 3),) * 10 and again.sources == (Holder(1, 1, 1),) * 10
    assert again.former == (Member(1, 1, SERVERS[1]),)


# ── claims ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_claim_stays() -> None:
    """Scenario §3.3-34: two sets of processes under one gid; a claim makes no configuration."""
    cluster = Cluster()
    before = cluster.changed(join(1, 2))
    assert cluster.machine.query(QueryConfiguration(-1, 1)).claimed_by == ""
    assert cluster.apply(Claim(1, 1, "first")) == Done("first")
    assert cluster.apply(Claim(1, 1, "second")) == Done("first")
    assert cluster.machine.query(QueryConfiguration(-1, 1)).claimed_by == "first"
    assert cluster.machine.query(QueryConfiguration(-1, 2)).claimed_by == ""
    assert cluster.query(-1) is before


def test_a_member_that_joined_again_is_claimed_anew() -> None:
    """Scenario §3.3-34: and the old member stays claimed, for groups that are still behind."""
    cluster = Cluster()
    cluster.changed(join(1))
    cluster.apply(Claim(1, 1, "old"))
    cluster.changed(Leave((1,)))
    cluster.changed(Join(((1, ("tcp:new:1",)),)))
    assert cluster.apply(Claim(1, 3, "new")) == Done("new")
    claims = [cluster.machine.query(QueryConfiguration(num, 1)).claimed_by for num in range(4)]
    assert claims == ["", "old", "", "new"]
    assert cluster.apply(Claim(1, 1, "late")) == Done("old"), "also after it left"


def test_a_join_claims_for_those_who_were_probed() -> None:
    cluster = Cluster()
    cluster.changed(join(1, 2, g1="one", g5="nobody"))
    assert cluster.apply(Claim(1, 1, "other")) == Done("one")
    assert cluster.apply(Claim(2, 1, "two")) == Done("two")
    cluster.changed(join(1, 2, g1="thief", g2="thief"))
    assert cluster.machine.query(QueryConfiguration(-1, 1)).claimed_by == "one"
    assert cluster.machine.query(QueryConfiguration(-1, 2)).claimed_by == "two"


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        (Claim(2, 1, "x"), "NoSuchGroup"),
        (Claim(1, 2, "x"), "NoSuchGroup"),
        (Claim(1, 0, "x"), "NoSuchGroup"),
        (Claim(1, -2, "x"), "NoSuchGroup"),
        (Claim(1, 99, "x"), "NoSuchGroup"),
        (Claim(1, -99, "x"), "NoSuchGroup"),
        (Claim(1, 1, ""), "BadRequest"),
    ],
)
def test_a_claim_of_nobody_is_refused(claim: Claim, error: str) -> None:
    cluster = Cluster()
    cluster.changed(join(1))
    cluster.changed(Move(0, 1))
    cluster.changed(join(3))
    answer = cluster.apply(claim)
    assert isinstance(answer, Refused) and answer.error == error


# ── founding ───────────────────────────────────────────────────────────────────────────────────────


def test_before_it_is_founded() -> None:
    machine = ControllerMachine()
    assert machine.chores() == (FoundCluster(),)
    session = machine.apply(1, CONTROLLER_COMMANDS.encode(Enroll(b"n")))
    assert isinstance(session, Done)
    early = CONTROLLER_COMMANDS.encode(Administer(session.value, 1, 1, join(1)))
    answer = machine.apply(2, early)
    assert isinstance(answer, Refused) and answer.error == "Unavailable"
    assert machine.query(QueryConfiguration(-1)) == ConfigurationAnswer("", empty_configuration(), "")
    machine.apply(3, CONTROLLER_COMMANDS.encode(Found("id", 4, 100)))
    assert machine.chores() == ()
    assert isinstance(machine.apply(4, early), Configured), "a refusal that was not recorded: it may be asked again"


def test_hazard_46_the_first_cluster_id_stays_and_stands_in_every_answer() -> None:
    """Hazard 46: by it, groups tell a wiped controller from their own; so it must survive restarts."""
    cluster = Cluster()
    assert cluster.apply(Found("another", 99, 5)) == Done("c" * 32)
    assert cluster.query(-1) == empty_configuration(10, 1000)
    for machine in (cluster.machine, cluster.shadow):
        for num in (-1, 0, 7):
            assert machine.query(QueryConfiguration(num)).cluster == "c" * 32


def test_hazard_46_a_rolled_back_controller_can_be_told_by_its_content() -> None:
    """Hazard 46: the same number with another content compares unequal, down to the servers."""
    one, other = Cluster(), Cluster()
    one.changed(join(1))
    other.changed(Join(((1, ("tcp:new:1",)),)))
    assert one.query(1) != other.query(1) and one.machine.digest() != other.machine.digest()


@pytest.mark.parametrize("found", [Found("", 1, 1), Found("c", 0, 1), Found("c", 4097, 1), Found("c", 1, 2**30)])
def test_no_cluster_is_founded_on_nonsense(found: Found) -> None:
    machine = ControllerMachine()
    answer = machine.apply(1, CONTROLLER_COMMANDS.encode(found))
    assert isinstance(answer, Refused) and answer.error == "BadRequest"
    assert machine.chores() == (FoundCluster(),)


def test_limits_go_into_every_configuration() -> None:
    cluster = Cluster(shards=4)
    for change in (join(1), join(2), Move(0, 2), Readdress(1, ("tcp:x:1",)), Leave((1,))):
        configuration = cluster.changed(change)
        assert configuration.value_bytes_max == 1000 and len(configuration.shards) == 4


# ── at most once ───────────────────────────────────────────────────────────────────────────────────


def test_hazard_45_a_retried_change_makes_one_configuration() -> None:
    """Hazard 45; scenario §3.4-44: a late Move must not flip a later one back."""
    cluster = Cluster()
    cluster.changed(join(1, 2))
    first = Administer(cluster.session, 50, 50, Move(0, 2))
    made = cluster.apply(first)
    cluster.apply(Administer(cluster.session, 51, 50, Move(0, 1)))
    assert cluster.apply(first) == made, "the answer of then"
    assert cluster.query(-1).num == 3 and cluster.query(-1).shards[0] == 1


def test_hazard_45_a_refusal_is_final() -> None:
    """Asked again under the same sequence, it stays refused, though it would be possible by now."""
    cluster = Cluster()
    cluster.changed(join(1))
    early = Administer(cluster.session, 50, 50, Move(0, 2))
    refused = cluster.apply(early)
    assert isinstance(refused, Refused)
    cluster.apply(Administer(cluster.session, 51, 50, join(2)))
    assert cluster.apply(early) == refused


def test_hazard_42_another_change_under_a_used_sequence_is_an_error() -> None:
    """Hazard 42."""
    cluster = Cluster()
    cluster.apply(Administer(cluster.session, 1, 1, join(1)))
    answer = cluster.apply(Administer(cluster.session, 1, 1, join(2)))
    assert isinstance(answer, Refused) and answer.error == "BadRequest"
    cluster.check(1)


def test_hazard_42_a_late_or_unknown_retry_is_not_run_anew() -> None:
    """Hazard 42."""
    cluster = Cluster()
    first = Administer(cluster.session, 1, 1, join(1))
    cluster.apply(first)
    cluster.apply(Administer(cluster.session, 2, 2, Leave((1,))))
    assert cluster.apply(first) == Expired()
    assert cluster.apply(Administer(99, 1, 1, join(1))) == Expired()
    cluster.check()


def test_the_same_nonce_enrolls_once() -> None:
    cluster = Cluster()
    assert cluster.apply(Enroll(b"admin")) == Done(cluster.session)
    assert cluster.machine.status()["sessions"] == 1


def test_the_digest_covers_sessions() -> None:
    """Replicas that would answer a retry differently must not look equal."""
    cluster = Cluster()
    before = cluster.machine.digest()
    cluster.apply(Enroll(b"another"))
    assert cluster.machine.digest() != before


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_query_changes_nothing() -> None:
    cluster = Cluster()
    cluster.changed(join(1))
    digest = cluster.machine.digest()
    cluster.machine.take_changes()
    for num in (-5, -1, 0, 1, 2):
        cluster.machine.query(QueryConfiguration(num, 1))
    assert cluster.machine.digest() == digest
    assert cluster.machine.take_changes().rows == {}


def test_a_configuration_is_written_once() -> None:
    """Checkpoints cost what changed, not what there is."""
    cluster = Cluster()
    cluster.changed(join(1))
    cluster.machine.take_changes()
    cluster.changed(join(2))
    spaces = Counter(space for _, _, space, _ in cluster.machine.take_changes().rows)
    assert spaces == {"configuration": 1, "session": 2}


def test_people_can_read_the_history() -> None:
    cluster = Cluster()
    cluster.changed(join(1))
    text = cluster.store[MACHINE_SHARD, 0, "configuration", "0000000000000001"]
    assert isinstance(text, str) and "tcp:10.0.1.1:7000" in text


def test_clear_forgets_everything() -> None:
    cluster = Cluster()
    cluster.changed(join(1, g1="one"))
    cluster.machine.clear()
    assert cluster.machine.digest() == ControllerMachine().digest()
    assert cluster.machine.take_changes().rows == {}
    assert cluster.machine.status() == ControllerMachine().status()


@pytest.mark.parametrize("command", [b"", b"\x01junk", CONTROLLER_COMMANDS.encode(Enroll(b"n"))[:-1]])
def test_a_damaged_command_stops_the_replica(command: bytes) -> None:
    with pytest.raises(Malformed):
        ControllerMachine().apply(1, command)


@pytest.mark.parametrize(
    "row",
    [
        Row(-1, 0, "configuration", "0000000000000002", "[2,[],[],[],[],[],1]"),
        Row(-1, 0, "configuration", "0000000000000001", "[1,"),
        Row(-1, 0, "configuration", "0000000000000001", b"[]"),
        Row(-1, 0, "configuration", "0000000000000001", None),
        Row(-1, 0, "wishes", "x", "y"),
    ],
    ids=["a gap", "cut short", "bytes", "nothing", "unknown space"],
)
def test_damaged_rows_are_not_taken(row: Row) -> None:
    with pytest.raises(Malformed):
        ControllerMachine().load([row])


def test_status() -> None:
    cluster = Cluster()
    cluster.changed(join(1))
    numbers = dict.fromkeys(("keys", "bytes", "shards", "migrations"), 0)
    assert cluster.machine.status() == {"cluster": "c" * 32, "configurations": 1, "sessions": 1, **numbers}


# ── against a naive twin ───────────────────────────────────────────────────────────────────────────

GIDS = st.integers(0, 6)
PORTS = st.integers(0, 1)


def endpoints_at(gid: int, port: int) -> tuple[str, ...]:
    return (f"tcp:g{gid}:{port}",)


class ControllerBesideTwin(RuleBasedStateMachine):
    """The twin knows groups as a dict and owners as a list; what is derived from history it derives anew."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(shards=5)
        self.groups: dict[int, tuple[str, ...]] = {}
        self.history: list[Configuration] = [self.cluster.query(0)]
        self.texts = [repr(self.history[0])]

    def took(self, change: Change, groups: dict[int, tuple[str, ...]], error: str, rebalanced: bool) -> None:
        """Apply, and compare with what the twin expects: an error, or these groups."""
        if error:
            self.cluster.refused(change, error)
            return
        before, after = self.history[-1], self.cluster.changed(change)
        assert after.groups == groups and [*after.groups] == sorted(groups)
        if groups == self.groups and not isinstance(change, Move):
            assert after is before
        if rebalanced and groups.keys() != self.groups.keys():
            assert after.shards == rebalance(before.shards, sorted(groups))
        elif not isinstance(change, Move):
            assert after.shards == before.shards
        if after is not before:
            self.history.append(after)
            self.texts.append(repr(after))
        self.groups = groups

    @rule(parts=st.dictionaries(GIDS, PORTS, max_size=3))
    def join(self, parts: dict[int, int]) -> None:
        asked = {gid: endpoints_at(gid, port) for gid, port in parts.items()}
        known = any(self.groups.get(gid, endpoints) != endpoints for gid, endpoints in asked.items())
        error = "BadRequest" if 0 in asked else "GroupExists" if known else ""
        self.took(Join(tuple(asked.items())), {**self.groups, **asked}, error, rebalanced=True)

    @rule(gids=st.lists(GIDS, max_size=3))
    def leave(self, gids: Sequence[int]) -> None:
        staying = {gid: endpoints for gid, endpoints in self.groups.items() if gid not in gids}
        self.took(Leave(tuple(gids)), staying, "", rebalanced=True)

    @rule(shard=st.integers(-1, 5), gid=GIDS)
    def move(self, shard: int, gid: int) -> None:
        before = self.history[-1]
        error = "NoSuchShard" if not 0 <= shard < 5 else "NoSuchGroup" if gid not in self.groups else ""
        self.took(Move(shard, gid), self.groups, error, rebalanced=False)
        after = self.cluster.query(-1)
        if not error:
            assert moved(before, after) == ([] if before.shards[shard] == gid else [(before.shards[shard], gid)])
            assert after.shards[shard] == gid

    @rule(gid=GIDS, port=PORTS)
    def readdress(self, gid: int, port: int) -> None:
        change = Readdress(gid, endpoints_at(gid, port))
        if gid in self.groups:
            self.took(change, {**self.groups, gid: endpoints_at(gid, port)}, "", rebalanced=False)
        elif not any(member.gid == gid for member in self.history[-1].former):
            self.took(change, self.groups, "NoSuchGroup", rebalanced=False)

    @invariant()
    def history_is_never_rewritten(self) -> None:
        """Scenario §3.4-42: neither by value nor in the objects that were handed out."""
        assert [self.cluster.query(num) for num in range(len(self.history))] == self.history
        assert [repr(configuration) for configuration in self.history] == self.texts
        assert self.cluster.query(-1) is self.history[-1]

    @invariant()
    def holders_and_sources_tell_the_story(self) -> None:
        """From the owners alone, shard by shard over the whole history."""
        newest = self.history[-1]
        for shard in range(5):
            story: list[Holder] = []
            for configuration in self.history:
                member = configuration.member(configuration.shards[shard])
                if member is not None and (
                    not story or (story[-1].gid, story[-1].joined) != (member.gid, member.joined)
                ):
                    story.append(Holder(member.gid, member.joined, configuration.num))
            assert newest.holders[shard] == (story[-1] if story else None)
            assert newest.sources[shard] == (story[-2] if len(story) > 1 else None)

    @invariant()
    def every_named_member_can_be_found(self) -> None:
        """Former members: exactly those named and not listed, with their last servers."""
        newest = self.history[-1]
        named = {(holder.gid, holder.joined) for holder in newest.holders + newest.sources if holder is not None}
        listed = {(member.gid, member.joined) for member in newest.members}
        assert [(member.gid, member.joined) for member in newest.former] == sorted(named - listed)
        for member in newest.former:
            lists = [
                known.endpoints
                for past in self.history
                for known in past.members
                if known.gid == member.gid and known.joined == member.joined
            ]
            assert member.endpoints == lists[-1]


def test_controller_agrees_with_a_naive_twin() -> None:
    """Scenarios §3.4-36 to 42, hazard 45: any changes in any order, restarting a second machine after each."""
    run_state_machine_as_test(
        ControllerBesideTwin, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )
