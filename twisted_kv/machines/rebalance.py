"""Which shards move when groups come and go: the fewest that leave every group with its share.

Decides the owner of each shard, from the owners before and the groups there are now. A share is the number of
shards divided by the number of groups, rounded down or up; the groups that have the most already get the
rounded-up shares, which is what makes the number of moves minimal. Ties go by gid and by shard number: the
same on every replica, with no hash and no set order in it.

Source: scenarios 36-38. Knows neither configurations nor why a group is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from twisted_kv.machines.configuration import NO_GROUP


def rebalance(shards: Sequence[int], gids: Collection[int]) -> tuple[int, ...]:
    """The owners after a change of the groups.

    Args:
        shards: shard → gid before; a gid that is not in ``gids`` owns nothing any more.
        gids: the groups there are; the order does not matter.

    Returns:
        shard → gid, max - min <= 1 over all gids; NO_GROUP everywhere if there are none. A shard keeps its
        owner unless that is gone or has more than its share.

    >>> rebalance((1, 1, 1, 1, 1), (1, 2))
    (1, 1, 1, 2, 2)
    >>> rebalance((1, 1, 3, 2, 2), (1, 2))
    (1, 1, 1, 2, 2)
    """
    if not gids:
        return (NO_GROUP,) * len(shards)
    room = _shares(shards, gids)
    owners: list[int] = []
    for gid in shards:
        keeps = room.get(gid, 0) > 0
        if keeps:
            room[gid] -= 1
        owners.append(gid if keeps else NO_GROUP)
    takers = iter([gid for gid in sorted(room) for _ in range(room[gid])])
    return tuple(next(takers) if gid == NO_GROUP else gid for gid in owners)


def _shares(shards: Sequence[int], gids: Collection[int]) -> dict[int, int]:
    """How many shards each group shall have; together exactly as many as there are."""
    owned = dict.fromkeys(gids, 0)
    for gid in shards:
        if gid in owned:
            owned[gid] += 1
    share, larger = divmod(len(shards), len(owned))
    fullest_first = sorted(owned, key=lambda gid: (-owned[gid], gid))
    return {gid: share + (place < larger) for place, gid in enumerate(fullest_first)}
