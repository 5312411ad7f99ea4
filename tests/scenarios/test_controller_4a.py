"""The lab's part 4A: the controller (scenarios §2.3). Three controller servers, ten shards, a reliable network.

The lab's checks of minimal transfers are vacuous; here every join and leave is held to the fewest moves that there
are, counted by a formula that does not build a configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from scenario_cluster import CONTROLLERS, NODES, PATIENT, SHARDS, Stage, on_stage, together

from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.machines.configuration import Configuration


@on_stage(gids=())
async def test_basic(stage: Stage) -> None:
    """Scenario §2.3 TestBasic, its six steps in sequence on one cluster."""
    remembered = await basic_leave_and_join(stage)
    await historical_queries(stage, remembered)
    await moves(stage)
    await concurrent_leaves_and_joins(stage)
    await minimal_transfers(stage)
    await stage.leave(*range(120, 200, 10))
    await minimal_transfers(stage)


async def basic_leave_and_join(stage: Stage) -> list[Configuration]:
    """Groups listed, shards balanced, server lists verbatim and in order after each change; what was seen comes back.

    Fails if the controller sorts the servers of a group, or if ``_regroup`` passes on the owners before.
    """
    seen = [await check(stage, ())]
    await join(stage.admin, 1, servers(1))
    seen.append(await check(stage, (1,)))
    await join(stage.admin, 2, servers(2))
    seen.append(await check(stage, (1, 2)))
    assert seen[-1].groups == {1: ("c1", "a1", "b1"), 2: ("c2", "a2", "b2")}
    await stage.leave(1)
    seen.append(await check(stage, (2,)))
    await stage.leave(2)
    seen.append(await check(stage, ()))
    assert [configuration.num for configuration in seen] == [0, 1, 2, 3, 4]
    return seen


async def historical_queries(stage: Stage, remembered: Sequence[Configuration]) -> None:
    """With each server down in turn, every remembered number gives the remembered configuration, whole.

    Fails if a query of an old number gives the newest.
    """
    for node in NODES:
        await stage.stop(CONTROLLERS, node)
        for configuration in remembered:
            assert await stage.query(configuration.num) == configuration
        await stage.start(CONTROLLERS, node)


async def moves(stage: Stage) -> None:
    """Each move that changes an owner raises the number by one, any other by none; the table is exactly as told.

    The first five to 503, the rest to 504, as in the lab; then the other way round, for our balance may have them so.
    Fails if ``_move`` balances, or makes a configuration for the present owner.
    """
    await join(stage.admin, 503, servers(503))
    first = newest = await join(stage.admin, 504, servers(504))
    for lower, upper in ((503, 504), (504, 503)):
        for shard in range(SHARDS):
            gid = lower if shard < 5 else upper
            before = newest
            newest = await stage.move(shard, gid)
            assert newest.num == before.num + (before.shards[shard] != gid)
            assert newest.shards == (*before.shards[:shard], gid, *before.shards[shard + 1 :])
        assert (await stage.query()).shards == (lower,) * 5 + (upper,) * 5
    assert newest.num >= first.num + SHARDS
    await stage.leave(503)
    await stage.leave(504)
    await check(stage, ())


async def concurrent_leaves_and_joins(stage: Stage) -> None:
    """Ten administrators at once, each Join g + 1000, Join g, Leave g + 1000: one shard for each of the ten that stay.

    Fails if two administrators are given the same session.
    """

    async def administer(gid: int) -> None:
        clerk = stage.controller_clerk()
        await join(clerk, gid + 1000, servers(gid + 1000))
        await join(clerk, gid, servers(gid))
        await clerk.leave([gid + 1000], timeout=PATIENT)

    before = (await stage.query()).num
    await together(administer(gid) for gid in range(100, 200, 10))
    configuration = await check(stage, range(100, 200, 10))
    assert configuration.num == before + 30


async def minimal_transfers(stage: Stage) -> None:
    """Join 11 … 15 one by one, then leave them: a shard moves only to a newcomer, or from one that leaves, and no more
    of them than must.

    Fails if ``rebalance`` deals all shards anew, or if ``_shares`` gives the larger ones by gid and not to those that
    have most.
    """
    newest = await stage.query()
    old = frozenset(newest.groups)
    for gid in range(11, 16):
        before, newest = newest, await join(stage.admin, gid, servers(gid))
        check_moves(before, newest)
        assert all(to in (own, gid) for own, to in zip(before.shards, newest.shards, strict=True))
    await check(stage, old | {*range(11, 16)})
    for gid in range(11, 16):
        before, newest = newest, await stage.leave(gid)
        check_moves(before, newest)
        assert all(to == own for own, to in zip(before.shards, newest.shards, strict=True) if own != gid)
    await check(stage, old)


@on_stage(gids=())
async def test_multi(stage: Stage) -> None:
    """Scenario §2.3 TestMulti: several groups in one call make one configuration, balanced, with the fewest moves;
    a new leader gives the same configuration as the one that was shut down.

    Fails if ``_leave`` takes out the first gid only, or if replicas rebalance in an order of their own (``set``).
    """
    first = await stage.admin.join({1: servers(1), 2: servers(2)}, timeout=PATIENT)
    assert (first.num, await check(stage, (1, 2))) == (1, first)
    await join(stage.admin, 3, servers(3))
    listed = await check(stage, (1, 2, 3))
    assert listed.groups == {gid: (f"c{gid}", f"a{gid}", f"b{gid}") for gid in (1, 2, 3)}
    assert (await stage.leave(1, 3)).num == 3
    assert (await check(stage, (2,))).groups == {2: servers(2)}
    await stage.leave(2)
    await check(stage, ())
    await concurrent_multi_leaves_and_joins(stage)
    await minimal_multi_transfers(stage)
    await stage.leave(*range(1002, 1010))
    await minimal_multi_transfers(stage)
    await same_configuration_on_servers(stage)


async def concurrent_multi_leaves_and_joins(stage: Stage) -> None:
    """Ten administrators at once, each Join {g, g + 1000, g + 2000}, Leave [g + 1000, g + 2000]."""

    async def administer(gid: int) -> None:
        clerk = stage.controller_clerk()
        await clerk.join({other: servers(other) for other in (gid, gid + 1000, gid + 2000)}, timeout=PATIENT)
        await clerk.leave([gid + 1000, gid + 2000], timeout=PATIENT)

    before = (await stage.query()).num
    await together(administer(gid) for gid in range(1000, 1010))
    configuration = await check(stage, range(1000, 1010))
    assert configuration.num == before + 20


async def minimal_multi_transfers(stage: Stage) -> None:
    """Join 11 … 15 by one call, leave them by one: shards go only to newcomers and come only from those that leave."""
    before = await stage.query()
    new = range(11, 16)
    joined = await stage.admin.join({gid: servers(gid) for gid in new}, timeout=PATIENT)
    check_moves(before, joined)
    assert all(to == own or to in new for own, to in zip(before.shards, joined.shards, strict=True))
    await check(stage, [*before.groups, *new])
    left = await stage.leave(*new)
    check_moves(joined, left)
    assert all(to == own or own in new for own, to in zip(joined.shards, left.shards, strict=True))
    assert (joined.num, left.num) == (before.num + 1, before.num + 2)
    await check(stage, before.groups)


async def same_configuration_on_servers(stage: Stage) -> None:
    """Shut the leader down, let another one come: it answers with the identical configuration."""
    before = await stage.query()
    leader = await stage.find_leader(CONTROLLERS)
    await stage.stop(CONTROLLERS, leader)
    await stage.sleep(3.0)
    assert await stage.query() == before
    assert await stage.find_leader(CONTROLLERS) != leader
    await stage.start(CONTROLLERS, leader)


@on_stage(gids=())
async def test_minimal_again(stage: Stage) -> None:
    """Scenario §2.3 TestMinimalAgain: shards not given to the newcomer did not move, at most 4 did; shards not with
    the one that left did not move, at most 4 did; and both times exactly as many as must.

    Fails if ``rebalance`` deals all shards anew, or if ``_shares`` gives the larger ones to those that have least.
    """
    await join(stage.admin, 1, servers(1))
    first = await join(stage.admin, 2, servers(2))
    second = await join(stage.admin, 3, servers(3))
    assert all(to in (own, 3) for own, to in zip(first.shards, second.shards, strict=True))
    assert moved(first, second) <= SHARDS // 3 + 1
    check_moves(first, second)
    third = await stage.leave(1)
    assert all(to == own for own, to in zip(second.shards, third.shards, strict=True) if own != 1)
    assert moved(second, third) <= SHARDS // 3 + 1
    check_moves(second, third)
    await check(stage, (2, 3))


# ── checks ─────────────────────────────────────────────────────────────────────────────────────────


def servers(gid: int) -> tuple[str, ...]:
    """Names in an order that sorting would change."""
    return f"c{gid}", f"a{gid}", f"b{gid}"


async def join(admin: ControllerClerk, gid: int, endpoints: Sequence[str]) -> Configuration:
    """One group, by one call."""
    return await admin.join({gid: endpoints}, timeout=PATIENT)


async def check(stage: Stage, gids: Iterable[int]) -> Configuration:
    """The newest configuration has exactly these groups, each shard on one of them, max − min ≤ 1."""
    configuration = await stage.query()
    wanted = sorted(gids)
    assert sorted(configuration.groups) == wanted
    owned = Counter(configuration.shards)
    if not wanted:
        assert configuration.shards == (0,) * SHARDS
        return configuration
    assert set(owned) <= set(wanted)
    counts = [owned[gid] for gid in wanted]
    assert max(counts) - min(counts) <= 1
    assert all(configuration.groups[gid] == servers(gid) for gid in wanted)
    return configuration


def check_moves(before: Configuration, after: Configuration) -> None:
    """No fewer moves would have balanced the groups."""
    assert moved(before, after) == fewest_moves(before.shards, tuple(after.groups))


def moved(before: Configuration, after: Configuration) -> int:
    """How many shards changed their owner."""
    return sum(own != to for own, to in zip(before.shards, after.shards, strict=True))


def fewest_moves(shards: Sequence[int], gids: Sequence[int]) -> int:
    """The least number of moves that leaves these groups balanced: all but those that can stay.

    Every group may keep its rounded-down share, and as many groups one more as shards are left over.
    """
    share, over = divmod(len(shards), len(gids))
    owned = Counter(shards)
    staying = sum(min(owned[gid], share) for gid in gids)
    return len(shards) - staying - min(over, sum(owned[gid] > share for gid in gids))
