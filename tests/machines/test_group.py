"""The machine of a replica group, one rule at a time; the random walk is in test_group_moves."""

from __future__ import annotations

import pytest
from machine_scripts import CLUSTER, Group, History, append, installing, key_in, put, settle

from twisted_kv.codec import Malformed
from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.commands import (
    GROUP_COMMANDS,
    AskDrop,
    Done,
    Drop,
    Dropped,
    Expired,
    Freeze,
    HandOver,
    Install,
    NextConfiguration,
    Open,
    Operation,
    Pull,
    PullAnswer,
    Refused,
    Scan,
    Write,
    WrongGroup,
)
from twisted_kv.machines.configuration import Configuration, Holder, Member
from twisted_kv.machines.copies import KEYS_FREED_AT_ONCE
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import BEGINNING, Cursor, Row

K0, K1 = key_in(0, 2), key_in(1, 2)


def cluster(*gids, shards=2):
    """A history and groups that have not applied anything."""
    return History(shards), {gid: Group(gid) for gid in gids}


def serving_both(value="v"):
    """Group 1 serves shards 0 and 1, each with a session and a key; groups 2 and 3 follow."""
    history, groups = cluster(1, 2, 3)
    history.assign(1, 1)
    settle(groups, history)
    for shard, key in enumerate((K0, K1)):
        assert groups[1].open(shard) == Done(1)
        assert groups[1].write(put(key, value, 1)) == (Done(),)
    return history, groups


def moving(value="v"):
    """As serving_both, then shard 0 goes to group 2, which both know; nothing else was done."""
    history, groups = serving_both(value)
    configuration = history.assign(2, 1)
    groups[1].configure(configuration)
    groups[2].configure(configuration)
    return history, groups


# ── what is served ─────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_served_before_the_first_configuration():
    """Scenario §3.4-45: configuration 0 gives no shard to anybody."""
    group = Group(1)
    assert group.write(put("k", "v", 1)) == (WrongGroup(0, 0),)
    assert group.get("k") == WrongGroup(0, 0)
    assert group.machine.chores() == (NextConfiguration(1),)


def test_a_shard_that_nobody_ever_owned_starts_empty_scenario_32():
    """Scenario §3.3-32, first half."""
    history, groups = cluster(1, 2)
    history.assign(1, 2)
    settle(groups, history)
    assert groups[1].get(K0) == Done(None)
    assert groups[1].get(K1) == WrongGroup(1, 2)
    assert groups[2].get(K1) == Done(None)


def test_ownership_is_checked_where_a_command_is_applied_hazard_26():
    """Hazard 26, scenarios §3.3-22, 23: HANDING serves; from the Freeze entry on it is WrongGroup, naming the taker."""
    _, groups = moving()
    assert groups[1].write(append(K0, "w", 2)) == (Done(),)
    assert groups[1].get(K0) == Done("vw")
    assert groups[1].apply(Freeze(0, 1)) == Done(True)
    assert groups[1].write(append(K0, "x", 3), append(K1, "x", 2)) == (WrongGroup(2, 2), Done())
    assert groups[1].get(K0) == WrongGroup(2, 2)
    assert groups[1].open(0) == WrongGroup(2, 2)
    assert groups[2].get(K0) == WrongGroup(2, 1), "while it pulls, it names the giver"


def test_wrong_group_is_not_recorded_scenario_14():
    """Scenario §3.2-14: the retry at the new owner, with the same sequence, is executed, once."""
    history, groups = moving()
    groups[1].apply(Freeze(0, 1))
    operation = append(K0, "w", 2)
    assert groups[1].write(operation) == (WrongGroup(2, 2),)
    assert groups[2].write(operation) == (WrongGroup(2, 1),)
    settle(groups, history)
    assert groups[2].write(operation) == (Done(),)
    assert groups[2].write(operation) == (Done(),)
    assert groups[2].get(K0) == Done("vw")


def test_answers_travel_with_the_shard_hazard_41():
    """Hazard 41, scenarios §3.2-15, 16: a retry at the new owner is given the answer that the old one stored."""
    history, groups = serving_both()
    hashed = Operation("h", K0, "w", 1, 2, 1)
    assert groups[1].write(hashed) == (Done("v"),)
    history.assign(2, 1)
    settle(groups, history)
    value = groups[2].get(K0)
    assert groups[2].write(hashed) == (Done("v"),)
    assert groups[2].get(K0) == value
    # The shard that stayed has a table of its own: the same numbers mean other operations there.
    assert groups[1].write(append(K1, "w", 2)) == (Done(),)
    assert groups[2].open(0, b"n" * 16) == Done(1), "a repeated Open finds its session at the new owner"
    assert groups[2].open(0, b"m" * 16) == Done(2), "a new one does not reuse a number"


def test_operations_of_one_command_have_outcomes_of_their_own():
    """Contract §6: a refusal concerns one operation; the limit is the cluster's."""
    _, groups = serving_both("x" * 999)
    refused, done, expired, wrong_type = groups[1].write(
        append(K0, "yy", 2), append(K0, "y", 3), put(K0, "z", 4, session=7), append(K0, b"y", 5)
    )
    assert isinstance(refused, Refused) and refused.error == "ValueTooLarge"
    assert done == Done()
    assert expired == Expired()
    assert isinstance(wrong_type, Refused) and wrong_type.error == "WrongType"
    assert groups[1].get(K0) == Done("x" * 999 + "y")


def test_shards_out_of_range_stop_nobody():
    """House rule: an exception in apply stops the replica, so a strange number must be an answer."""
    _, groups = serving_both()
    assert groups[1].apply(Open((0, 2, -1, 10**9), b"n" * 16)) == (Done(1), *[WrongGroup(1, 0)] * 3)
    assert groups[1].apply(Freeze(7, 1)) == Done(False)
    assert groups[1].apply(installing(PullAnswer("rows", last=True), 7, 1)) == Done(False)


def test_damaged_commands_stop_the_replica():
    """House rule: what is not a command in the log means a bug or damage."""
    with pytest.raises(Malformed):
        GroupMachine(1).apply(1, b"\x01junkjunkjunk")


def test_reads_leave_no_trace():
    """House rule, Sessions: gets leave no trace, so a read is not in the rows and not in the digest."""
    _, groups = serving_both()
    groups[1].checkpoint()
    before = groups[1].machine.digest()
    groups[1].get(K0)
    groups[1].ask(0, 1)
    assert groups[1].machine.digest() == before
    assert groups[1].checkpoint() == set()


def test_a_scan_sees_a_served_shard_in_order_hazard_26():
    """Hazard 26: ownership is checked at the read point for scans too; any chunk size gives every key once."""
    _, groups = moving()
    keys = sorted([K0, *[f"{{{K0}}}é{number}" for number in range(7)]])
    for sequence, key in enumerate(keys[1:], 2):
        groups[1].write(put(key, f"value {sequence}", sequence))
    for bytes_max in (1, 40, 10_000):
        seen, after, last = [], None, False
        while not last and len(seen) < 99:
            answer = groups[1].machine.query(Scan(0, after, bytes_max))
            seen += zip(answer.keys, answer.values, strict=True)
            after, last = answer.keys[-1], answer.last
        assert [key for key, _ in seen] == keys
        assert all(groups[1].get(key) == Done(value) for key, value in seen)
    groups[1].write(put(keys[-1], "v" * ROWS_CHUNK_BYTES, 9))
    assert not groups[1].machine.query(Scan(0, keys[0], 1 << 62)).last or len(keys) < 3
    assert groups[2].machine.query(Scan(0, None, 100)) == WrongGroup(2, 1)
    assert groups[1].machine.query(Scan(9, None, 100)) == WrongGroup(2, 0)


def test_only_what_is_wholly_elsewhere_is_turned_away_scenario_31():
    """Scenario §3.3-31: clients that wait for a shard do not grow the log; one served shard, and the log decides."""
    _, groups = moving()
    there, here = append(K0, "w", 2), append(K1, "w", 2)
    assert groups[2].machine.turned_away(Write((there,))) == (WrongGroup(2, 1),)
    assert groups[1].machine.turned_away(Write((there,))) is None, "HANDING is served"
    groups[1].apply(Freeze(0, 1))
    assert groups[1].machine.turned_away(Write((there, there))) == (WrongGroup(2, 2),) * 2
    assert groups[1].machine.turned_away(Write((there, here))) is None


# ── configurations, one after the other ────────────────────────────────────────────────────────────


def test_configurations_are_taken_one_by_one_scenario_21():
    """Scenarios §3.3-21, 22: never skipped, and a second copy of the entry changes nothing."""
    history, groups = cluster(1)
    first, second = history.assign(1, 1), history.assign(1, 2)
    assert groups[1].configure(second) == Done(False)
    assert groups[1].configure(first) == Done(True)
    before = groups[1].machine.digest()
    assert groups[1].configure(first) == Done(False)
    assert groups[1].machine.digest() == before
    assert groups[1].machine.chores() == (NextConfiguration(2),)


def test_a_shard_in_motion_holds_back_the_next_configuration_hazard_43():
    """Hazard 43: configuration n+1 starts only when n is done, in giver and taker; LEAVING holds back nothing."""
    history, groups = moving()
    following = history.assign(1, 1)
    for gid in (1, 2):
        assert groups[gid].configure(following) == Done(False)
    assert groups[1].machine.chores() == (HandOver(0, 1, Holder(2, 2, 2)),)
    assert groups[2].machine.chores() == (Pull(0, 2, Holder(1, 1, 1), ("ep:1:1",), 0, BEGINNING, False, False),)
    groups[1].apply(Freeze(0, 1))
    assert groups[1].machine.chores() == (NextConfiguration(3),)
    assert groups[1].configure(following) == Done(True)
    assert groups[1].phases() == {(0, 1): "leaving", (0, 3): "pulling", (1, 1): "serving"}


def test_groups_outside_the_configuration_follow_it_scenario_24():
    """Scenario §3.3-24: one that never joined follows; one that left serves pulls and keeps data until confirmed."""
    history, groups = serving_both()
    history.assign(2, 2)
    for gid in (3, 2, 1):
        groups[gid].configure(history.newest)
    assert groups[3].machine.status()["configuration"] == 2
    assert groups[1].ask(0, 1, bytes_max=0).state == "ahead", "served on"
    assert groups[1].ask(0, 1, hand=True).state == "rows"
    settle(groups, history)
    assert groups[1].machine.status() == {
        "keys": 0,
        "bytes": 0,
        "shards": 0,
        "copies": 0,
        "migrations": 0,
        "arriving": [],
        "sessions": 0,
        "configuration": 2,
        "cluster": CLUSTER,
    }


def test_status_tells_how_far_a_copy_has_come():
    """Nothing before the first chunk, and nothing when it is served."""
    history, groups = serving_both()
    history.assign(2, 2)
    for gid in (3, 2, 1):
        groups[gid].configure(history.newest)
    taker = groups[2]
    pull = next(chore for chore in taker.machine.chores() if isinstance(chore, Pull))
    assert taker.machine.status()["arriving"] == []
    answer = groups[1].ask(pull.shard, pull.source.num, bytes_max=0)
    assert answer.rows
    taker.apply(installing(answer, pull.shard, pull.num))
    (arriving,) = taker.machine.status()["arriving"]
    assert arriving["shard"] == pull.shard and arriving["from"] == 1
    assert 0 < arriving["bytes"] <= arriving["total_bytes"] == answer.total_bytes
    settle(groups, history)
    assert taker.machine.status()["arriving"] == []


def test_a_group_that_was_down_for_long_finds_its_data_scenario_25():
    """Scenario §3.3-25: 2 sleeps through three changes, is asked too early, and then replays them all."""
    history, groups = serving_both()
    history.assign(2, 1)
    history.assign(3, 1)
    awake = {1: groups[1], 3: groups[3]}
    for group in awake.values():
        group.configure(history.configurations[2])
    groups[1].apply(Freeze(0, 1))
    for group in awake.values():
        group.configure(history.newest)
    pull = groups[3].machine.chores()[0]
    assert pull == Pull(0, 3, Holder(2, 2, 2), ("ep:2:2",), 0, BEGINNING, False, False)
    assert groups[2].ask(0, 2) == PullAnswer("wait"), "not there yet is not gone"
    assert groups[2].apply(Drop(0, 2)) == Done(False)
    assert groups[1].ask(0, 1).state == "rows", "kept although 1 is past that configuration"
    settle(groups, history)
    assert groups[3].get(K0) == Done("v")


def test_another_controller_is_refused_hazard_46():
    """Hazard 46: the first cluster id stays; another, or another content under a known number, is refused."""
    history, groups = serving_both()
    foreign = History(2)
    foreign.assign(2, 2)
    other_content = groups[1].configure(foreign.newest)
    assert isinstance(other_content, Refused)
    history.assign(1, 1, members=(1, 2))
    before = groups[1].machine.digest()
    other_cluster = groups[1].configure(history.newest, cluster="cluster-b")
    assert isinstance(other_cluster, Refused) and CLUSTER in other_cluster.text
    more_shards = History(3)
    more_shards.assign(1, 1, 1)
    assert isinstance(groups[1].configure(more_shards.assign(1, 1, 2)), Refused)
    assert groups[1].machine.digest() == before
    assert groups[1].configure(history.newest) == Done(True)


def test_a_configuration_that_contradicts_what_is_held_is_refused_as_a_whole_hazard_46():
    """Hazard 46: a rolled-back controller retold history; nothing of its next configuration is taken."""
    _, groups = serving_both()
    member = Member(1, 1, ("ep:1:1",))
    retold = Configuration(2, (0, 1), (member,), (Holder(1, 1, 1), Holder(1, 1, 2)), (None, None), (), 1000)
    before = groups[1].machine.digest()
    assert isinstance(groups[1].configure(retold), Refused)
    assert groups[1].machine.digest() == before
    assert groups[1].get(K0) == Done("v"), "shard 0 was not parked although its part could have been applied"


def test_the_same_gid_may_be_other_processes_scenario_34():
    """Scenario §3.3-34: gid 1 left and joined with other servers; the old ones give, the new ones pull from them."""
    history, groups = serving_both()
    history.assign(2, 2)
    settle(groups, history)
    history.assign(1, 2)
    old, new = groups[1], Group(1)
    for configuration in history.configurations[1:]:
        old.configure(configuration, mine=configuration.num < 3)
        new.configure(configuration, mine=configuration.num == 3)
    assert old.phases() == {}
    assert new.phases() == {(0, 3): "pulling"}
    assert old.get(K0) == WrongGroup(3, 0), "its own gid would send the client round in a circle"
    assert new.get(K0) == WrongGroup(3, 2)
    settle({1: new, 2: groups[2]}, history)
    assert new.get(K0) == Done("v")


def test_parked_data_of_the_same_gid_is_pulled_by_other_processes_scenario_34():
    """Scenario §3.3-34: all left, then other servers join under the old gid."""
    history, groups = serving_both()
    history.assign(0, 0)
    groups[1].configure(history.newest)
    history.assign(1, 1)
    old, new = groups[1], Group(1)
    old.configure(history.newest, mine=False)
    assert set(old.phases().values()) == {"leaving"}
    for configuration in history.configurations[1:]:
        new.configure(configuration, mine=configuration.num == 3)
    assert new.machine.chores()[0] == Pull(0, 3, Holder(1, 1, 1), ("ep:1:1",), 0, BEGINNING, False, False)
    rows = old.ask(0, 1, bytes_max=10_000)
    new.apply(installing(rows, 0, 3))
    assert new.get(K0) == Done("v")


# ── moving ─────────────────────────────────────────────────────────────────────────────────────────


def test_both_directions_at_once_scenario_26():
    """Scenario §3.3-26, hazard 44: two groups exchange shards; neither waits for the other's pull to end."""
    history, groups = cluster(1, 2)
    history.assign(1, 2)
    settle(groups, history)
    for gid, (shard, key) in {1: (0, K0), 2: (1, K1)}.items():
        groups[gid].open(shard)
        groups[gid].write(put(key, f"from {gid}", 1))
    history.assign(2, 1)
    for group in groups.values():
        group.configure(history.newest)
    assert groups[1].phases() == {(0, 1): "handing", (1, 2): "pulling"}
    groups[1].apply(Freeze(0, 1))
    assert groups[1].ask(0, 1).state == "rows", "while its own pull has not begun"
    settle(groups, history)
    assert (groups[2].get(K0), groups[1].get(K1)) == (Done("from 1"), Done("from 2"))
    assert groups[1].phases() == {(1, 2): "serving"}


def test_unaffected_and_arrived_shards_are_served_at_once_scenario_31():
    """Scenarios §3.3-31, S22, S23: of two gained shards one arrives; it is served although the other is missing."""
    history, groups = cluster(1, 2, 3, shards=3)
    history.assign(1, 3, 2)
    settle(groups, history)
    history.assign(2, 2, 2)
    for group in groups.values():
        group.configure(history.newest)
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1)
    groups[2].apply(installing(answer, 0, 2))
    keys = [key_in(shard, 3) for shard in range(3)]
    assert groups[2].get(keys[0]) == Done(None)
    assert groups[2].get(keys[1]) == WrongGroup(2, 3)
    assert groups[2].get(keys[2]) == Done(None)
    for shard in (0, 2):
        assert groups[2].open(shard) == Done(1)
        assert groups[2].write(put(keys[shard], "v", 1)) == (Done(),), "writes too"
    assert groups[2].configure(history.assign(2, 2, 2, members=(1, 2, 3))) == Done(False)


def test_chunks_are_installed_once_and_in_order_scenario_28():
    """Scenario §3.3-28, hazards 27, 43: duplicates of rival leaders, gaps and late chunks change nothing."""
    _, groups = moving()
    groups[1].apply(Freeze(0, 1))
    chunks, answer = [], PullAnswer("ahead")
    while not answer.last and len(chunks) < 9:
        answer = groups[1].ask(0, 1, answer.cursor, bytes_max=1)
        chunks.append(installing(answer, 0, 2, len(chunks)))
    assert len(chunks) == 3, "a key, a session, the counter"
    taker = groups[2]
    assert taker.apply(chunks[1]) == Done(False), "a gap"
    assert taker.apply(chunks[-1]) == Done(False), "the last one first"
    assert taker.apply(chunks[0]) == Done(True)
    assert taker.apply(chunks[0]) == Done(False), "again"
    assert taker.apply(installing(answer, 0, 1, 1)) == Done(False), "of another configuration"
    assert taker.get(K0) == WrongGroup(2, 1), "a staging copy is not served"
    assert [taker.apply(chunk) for chunk in chunks[1:]] == [Done(True)] * 2
    taker.write(append(K0, "w", 2))
    assert [taker.apply(chunk) for chunk in chunks] == [Done(False)] * 3, "late, after a client wrote"
    assert taker.get(K0) == Done("vw")


def test_a_copy_is_dropped_only_when_it_was_taken_scenario_30():
    """Scenario §3.3-30: an early Drop is turned down, a repeated one confirmed, and it names the configuration."""
    _, groups = moving()
    assert groups[1].apply(Drop(0, 1)) == Done(False), "HANDING"
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1, bytes_max=10_000)
    groups[2].apply(installing(answer, 0, 2))
    assert groups[2].machine.chores() == (NextConfiguration(3), AskDrop(0, 1, Holder(1, 1, 1), ("ep:1:1",)))
    assert groups[1].apply(Drop(0, 1)) == Done(True)
    assert groups[1].apply(Drop(0, 1)) == Done(True)
    assert groups[1].ask(0, 1) == PullAnswer("gone")
    assert groups[2].apply(Dropped(0, 1)) == Done(True)
    assert groups[2].apply(Dropped(0, 1)) == Done(False)
    assert groups[2].machine.chores() == (NextConfiguration(3),)


def test_a_late_drop_does_not_hit_the_regained_copy_scenario_30():
    """Scenario §3.3-30: A → B → A, and only then the Drop of A's older copy, twice."""
    history, groups = moving()
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1, bytes_max=10_000)
    groups[2].apply(installing(answer, 0, 2))
    groups[2].write(append(K0, "w", 2))
    history.assign(1, 1, members=(1, 2))
    for gid in (1, 2):
        groups[gid].configure(history.newest)
    groups[2].apply(Freeze(0, 2))
    answer = groups[2].ask(0, 2, bytes_max=10_000)
    groups[1].apply(installing(answer, 0, 3))
    assert groups[1].phases()[0, 1] == "leaving" and groups[1].phases()[0, 3] == "serving"
    for _ in range(2):
        assert groups[1].apply(Drop(0, 1)) == Done(True)
        assert groups[1].get(K0) == Done("vw")
    groups[1].checkpoint()
    groups[1].restart()
    assert groups[1].get(K0) == Done("vw")
    assert groups[1].apply(Freeze(0, 1)) == Done(False)


def test_after_the_move_the_giver_has_no_rows_left_scenario_s24():
    """Scenarios S24, §3.2-17: keys, sessions and the copy's own row are deleted."""
    history, groups = serving_both()
    groups[1].checkpoint()
    assert {key[0] for key in groups[1].stored} == {-1, 0, 1}
    history.assign(2, 1)
    settle(groups, history)
    groups[1].checkpoint()
    assert {key[0] for key in groups[1].stored} == {-1, 1}


def test_an_owed_drop_follows_a_group_that_moved_house():
    """Contract §2, readdress: the giver's newest known endpoints are asked; a forgotten giver's last known ones."""
    history, groups = moving()
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1, bytes_max=10_000)
    groups[2].apply(installing(answer, 0, 2))
    previous = history.newest
    members = (Member(1, 1, ("ep:new",)), *previous.members[1:])
    groups[2].configure(Configuration(3, previous.shards, members, previous.holders, previous.sources, (), 1000))
    wanted = AskDrop(0, 1, Holder(1, 1, 1), ("ep:new",))
    assert wanted in groups[2].machine.chores()
    groups[2].configure(Configuration(4, previous.shards, (), previous.holders, previous.sources, (), 1000))
    assert wanted in groups[2].machine.chores()
    groups[2].checkpoint()
    groups[2].restart()
    assert wanted in groups[2].machine.chores()


def test_chunks_are_at_most_as_large_as_the_house_allows():
    """House rule: chunk entries of at most 256 KiB, whatever is asked for."""
    _, groups = moving()
    for sequence in range(2, 402):
        groups[1].write(put(key_in(0, 2, sequence - 1), "x" * 999, sequence, sequence))
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1, bytes_max=10**9)
    assert not answer.last
    assert ROWS_CHUNK_BYTES // 2 < sum(row.size for row in answer.rows) <= ROWS_CHUNK_BYTES


# ── nobody left ────────────────────────────────────────────────────────────────────────────────────


def all_left():
    history, groups = serving_both()
    history.assign(0, 0)
    settle(groups, history)
    assert groups[1].phases() == {(0, 1): "parked", (1, 1): "parked"}
    assert groups[1].get(K0) == WrongGroup(2, 0)
    assert groups[1].ask(0, 1) == PullAnswer("wait")
    return history, groups


def test_the_last_owner_keeps_the_data_for_another_group_scenario_32():
    """Scenario §3.3-32, contract §5.6: all leave; the next to join pulls from the last owner, who then has nothing."""
    history, groups = all_left()
    history.assign(3, 3)
    settle(groups, history)
    assert groups[3].get(K0) == groups[3].get(K1) == Done("v")
    assert groups[3].write(put(K0, "v", 1)) == (Done(),), "sessions too"
    assert groups[1].phases() == {}


def test_the_last_owner_joins_again_and_serves_at_once_scenario_33():
    """Scenario §3.3-33: the same processes under a new ``joined``; not one key row is written for it."""
    history, groups = all_left()
    groups[1].checkpoint()
    history.assign(1, 1)
    assert groups[1].configure(history.newest) == Done(True)
    assert groups[1].get(K0) == Done("v")
    assert groups[1].phases() == {(0, 3): "serving", (1, 3): "serving"}
    assert {(row[0], row[2]) for row in groups[1].checkpoint()} == {(-1, "configuration"), (0, "copy"), (1, "copy")}
    groups[1].write(append(K0, "w", 2))
    groups[1].checkpoint()
    groups[1].restart()
    # The renamed copy moves on under its new name, and goes from the disk with its rows under the old one.
    history.assign(2, 1)
    settle(groups, history)
    assert groups[2].get(K0) == Done("vw")
    groups[1].checkpoint()
    assert {key[0] for key in groups[1].stored} == {-1, 1}


def test_a_gid_that_comes_back_pulls_what_is_current_scenario_33():
    """Scenario §3.3-33: its old copies are not revived."""
    history, groups = serving_both()
    history.assign(2, 2)
    settle(groups, history)
    groups[2].write(append(K0, "w", 2))
    history.assign(1, 2)
    settle(groups, history)
    assert groups[1].get(K0) == Done("vw")


# ── rows ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_restart_in_the_middle_of_a_pull_goes_on_scenario_29():
    """Scenario §3.3-29, hazards 32, 44: chunk number and cursor are state; so is who takes."""
    history, groups = moving()
    groups[2].checkpoint()
    groups[1].apply(Freeze(0, 1))
    answer = groups[1].ask(0, 1, bytes_max=1)
    groups[2].apply(installing(answer, 0, 2))
    for how in ("log", "rows"):
        if how == "rows":
            for gid in (1, 2):
                groups[gid].checkpoint()
        for gid in (1, 2):
            groups[gid].restart()
        (pull,) = groups[2].machine.chores()
        assert (pull.chunk, pull.cursor) == (1, Cursor(("key", K0), False, 0))
        assert groups[1].machine.shards_status()[0]["taker"] == [2, 2, 2]
    settle(groups, history)
    assert groups[2].get(K0) == Done("v")


def test_a_checkpoint_costs_what_changed():
    """House rule, Storage: 20,000 keys, 10 changed: ten key rows, the sessions used, and nothing else."""
    history, groups = cluster(1)
    history.assign(1, 1)
    settle(groups, history)
    keys = [f"{{{K0}}}{number}" for number in range(20_000)]
    groups[1].checkpoint()
    groups[1].machine.load(Row(0, 1, "key", key, "v") for key in keys)
    assert groups[1].checkpoint() == set()
    groups[1].open(0)
    groups[1].write(*[put(key, "w", sequence) for sequence, key in enumerate(keys[:10], 1)])
    written = groups[1].checkpoint()
    assert sum(key[2] == "key" for key in written) == 10
    assert len(written) <= 12
    assert groups[1].checkpoint() == set()


def test_what_was_taken_stays_as_it_stood():
    """House rule, Storage: rows as they stood at one index; what is applied meanwhile is in the next take."""
    _, groups = serving_both()
    taken = groups[1].machine.take_changes().rows
    before = dict(taken)
    groups[1].write(append(K0, "w", 2))
    assert taken == before
    assert taken[0, 1, "key", K0] == "v"
    assert groups[1].machine.take_changes().rows[0, 1, "key", K0] == "vw"


def test_clear_forgets_everything():
    """Hazard 31: a snapshot is loaded into nothing, also where something was not yet taken."""
    _, groups = moving()
    groups[1].checkpoint()
    chores = groups[1].machine.chores()
    groups[1].write(append(K0, "not taken yet", 2))
    groups[1].machine.clear()
    fresh = GroupMachine(1)
    assert groups[1].machine.digest() == fresh.digest()
    assert groups[1].machine.chores() == fresh.chores()
    changes = groups[1].machine.take_changes()
    assert (changes.dropped, changes.rows) == ([], {})
    groups[1].machine.load(Row(*key, value) for key, value in sorted(groups[1].stored.items()))
    assert groups[1].machine.chores() == chores
    assert groups[1].get(K0) == Done("v")


def test_rows_are_readable_by_people():
    """House rule, Storage: people look with sqlite-utils; what is no client's value is JSON text."""
    _, groups = moving()
    groups[1].checkpoint()
    assert groups[1].stored[0, 1, "copy", ""] == '{"num":1,"state":{"phase":"handing","taker":[2,2,2]}}'
    assert groups[1].stored[-1, 0, "configuration", "current"].startswith('{"cluster":"cluster-a","mine":true')


def test_replicas_agree_hazard_20():
    """Hazard 20: the same commands give the same replies, chores, rows and digest; another command another digest."""
    _, groups = moving()
    one, other = groups[1], Group(1)
    for index, command in enumerate(one.log, 1):
        other.machine.apply(index, GROUP_COMMANDS.encode(command))
    assert one.machine.digest() == other.machine.digest()
    assert one.machine.take_changes() == other.machine.take_changes()
    one.apply(Freeze(0, 1))
    assert one.machine.digest() != other.machine.digest()
    other.apply(Freeze(0, 1))
    one.write(put(K1, "x", 2))
    other.write(put(K1, "y", 2))
    assert one.machine.digest() != other.machine.digest()


def test_status_counts_what_is_held():
    """Contract §2: keys, bytes, shards, migrations; a copy that leaves is still held."""
    _, groups = moving()
    status = groups[1].machine.status()
    assert (status["keys"], status["shards"], status["copies"], status["migrations"]) == (2, 2, 2, 1)
    assert status["bytes"] == len(K0) + len(K1) + 2
    assert status["sessions"] == 2
    groups[1].apply(Freeze(0, 1))
    assert groups[1].machine.status() == {**status, "shards": 1}
    assert groups[1].machine.configuration.num == 2
    assert groups[1].machine.cluster == CLUSTER
    assert groups[1].machine.shards_status()[0] == {
        "shard": 0,
        "num": 1,
        "phase": "leaving",
        "taker": [2, 2, 2],
        "keys": 1,
        "bytes": len(K0) + 1,
        "sessions": 1,
    }


def test_rival_leaders_are_harmless_hazard_43():
    """Hazards 27 (scenario), 43: every migration command once more, in giver and taker."""
    history, groups = serving_both()
    history.assign(2, 1)
    settle(groups, history)
    digests = {gid: group.machine.digest() for gid, group in groups.items()}
    for group in groups.values():
        for command in [command for command in group.log if isinstance(command, Freeze | Install | Drop | Dropped)]:
            assert group.apply(command) in (Done(True), Done(False))
    assert {gid: group.machine.digest() for gid, group in groups.items()} == digests
    assert groups[2].get(K0) == groups[1].get(K1) == Done("v")


def test_a_parked_shard_is_still_held_however_empty():
    """Contract §5.6: a group may be shut down only when status shows that it holds nothing more."""
    history, groups = serving_both()
    history.assign(0, 0)
    groups[1].configure(history.newest)
    status = groups[1].machine.status()
    assert (status["shards"], status["migrations"], groups[1].machine.configuration.num) == (2, 0, history.newest.num)


def test_what_is_gone_is_freed_by_and_by():
    """House rule, no long turns: a dropped copy and a replaced state are given up a few thousand keys at a time."""
    _, groups = moving()
    machine = groups[1].machine
    machine.load(Row(1, 1, "key", f"{{{K1}}}{number}", "v") for number in range(KEYS_FREED_AT_ONCE + 10))
    held = machine._copies.serving[1].contents
    machine.clear()
    assert machine.status()["keys"] == 0
    before = len(held.data)
    machine.tidy()
    assert len(held.data) == before - KEYS_FREED_AT_ONCE
    machine.tidy()
    assert not held.data
