"""Rebalancing: balanced, with the fewest moves, and the same everywhere."""

import itertools
import random
from collections import Counter
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.machines.configuration import NO_GROUP
from twisted_kv.machines.rebalance import rebalance


def moves(before: Sequence[int], after: Sequence[int]) -> int:
    return sum(old != new for old, new in zip(before, after, strict=True))


def spread(shards: Sequence[int], gids: Collection[int]) -> int:
    owned = Counter(shards)
    return max(owned[gid] for gid in gids) - min(owned[gid] for gid in gids)


def fewest_moves_by_trying_all(before: Sequence[int], gids: Sequence[int]) -> int:
    """The naive twin: every assignment there is."""
    return min(
        moves(before, after) for after in itertools.product(gids, repeat=len(before)) if spread(after, gids) <= 1
    )


def fewest_moves_by_formula(before: Sequence[int], gids: Sequence[int]) -> int:
    """Each group keeps what it has up to its share; as many as possible of those above keep one more."""
    share, larger = divmod(len(before), len(gids))
    owned = Counter(before)
    above = sum(owned[gid] > share for gid in gids)
    return len(before) - sum(min(owned[gid], share) for gid in gids) - min(above, larger)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.sets(st.integers(1, 4), min_size=1))
@settings(max_examples=150, deadline=None)
def test_fewest_moves_of_all_in_small_worlds(before: list[int], gids: set[int]) -> None:
    """Scenario §3.4-38, and the closed formula is right, so it can be trusted in large worlds."""
    fewest = fewest_moves_by_trying_all(before, sorted(gids))
    assert moves(before, rebalance(before, gids)) == fewest == fewest_moves_by_formula(before, sorted(gids))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.sets(st.integers(1, 45), min_size=1))
@settings(max_examples=200, deadline=None)
def test_balanced_minimal_and_only_what_must_move(before: list[int], gids: set[int]) -> None:
    """Scenarios §3.4-37, 38: from any table, also with more groups than shards."""
    after = rebalance(before, gids)
    assert set(after) <= gids and spread(after, gids) <= 1
    assert moves(before, after) == fewest_moves_by_formula(before, sorted(gids))
    share = -(-len(before) // len(gids))
    owned = Counter(before)
    for old, new in zip(before, after, strict=True):
        assert old == new or old not in gids or owned[old] >= share, "left a group that had no more than its share"
    assert rebalance(after, gids) == after, "a balanced table stays"


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.sets(st.integers(1, 9), min_size=1), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_hazard_45_the_order_of_groups_does_not_matter(before: list[int], gids: set[int], seed: int) -> None:
    """Scenario §3.4-36; hazard 45."""
    shuffled = sorted(gids)
    random.Random(seed).shuffle(shuffled)
    assert rebalance(before, gids) == rebalance(tuple(before), shuffled) == rebalance(before, dict.fromkeys(shuffled))


def test_hazard_45_the_exact_table_is_fixed() -> None:
    """Replicas of two versions must agree: a change of the tie-breaks is a change of the log's meaning."""
    assert rebalance((0,) * 10, (3, 1, 2)) == (1, 1, 1, 1, 2, 2, 2, 3, 3, 3)
    assert rebalance((1, 1, 1, 1, 2, 2, 2, 3, 3, 3), (1, 2, 3, 4)) == (1, 1, 1, 4, 2, 2, 2, 3, 3, 4)
    assert rebalance((7, 7, 7, 7, 5, 5), (5, 7, 6)) == (7, 7, 6, 6, 5, 5)
    assert rebalance((2, 2, 0, 0, 0, 0), (1, 2)) == (2, 2, 1, 1, 1, 2)


@pytest.mark.parametrize("shards", [(0,) * 4, (1, 2, 1, 2)])
def test_no_groups_no_owners(shards: tuple[int, ...]) -> None:
    assert rebalance(shards, ()) == (NO_GROUP,) * 4


def test_more_groups_than_shards() -> None:
    """Scenario §3.4-37: some own nothing, and those that own something keep it."""
    assert rebalance((1, 2, 3), range(1, 9)) == (1, 2, 3)
    assert rebalance((5, 5, 5), range(1, 9)) == (5, 1, 2)


@given(st.integers(1, 300), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_a_join_moves_only_towards_the_newcomer(shards: int, groups: int) -> None:
    """Scenario §3.4-38: at most ⌈shards / (groups + 1)⌉ of them."""
    before = rebalance((NO_GROUP,) * shards, range(1, groups + 1))
    after = rebalance(before, range(1, groups + 2))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) <= {groups + 1} and len(moved) <= -(-shards // (groups + 1))


@given(st.integers(1, 300), st.integers(2, 40), st.data())
@settings(max_examples=60, deadline=None)
def test_a_leave_moves_only_what_the_leaver_had(shards: int, groups: int, data: st.DataObject) -> None:
    """Scenario §3.4-38."""
    before = rebalance((NO_GROUP,) * shards, range(1, groups + 1))
    leaver = data.draw(st.integers(1, groups))
    after = rebalance(before, [gid for gid in range(1, groups + 1) if gid != leaver])
    assert {old for old, new in zip(before, after, strict=True) if old != new} <= {leaver}
