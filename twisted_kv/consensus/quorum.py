"""Decides what a majority has said or saved; arithmetic alone, shared by Raft and Paxos.

Source: Raft §5.3 and §5.4 (In Search of an Understandable Consensus Algorithm, extended version). Knows neither
terms nor logs: §5.4.2, that only entries of the present term are committed by counting, is the caller's to keep.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twisted_kv.consensus.types import NodeID


def majority(voters: Collection[NodeID]) -> int:
    """How many voters are more than half of them.

    >>> majority({1, 2, 3}), majority({1, 2, 3, 4})
    (2, 3)
    """
    return len(voters) // 2 + 1


def is_quorum(nodes: Collection[NodeID], voters: frozenset[NodeID]) -> bool:
    """Whether these nodes hold a majority of the voters; copies and strangers count for nothing.

    >>> is_quorum({1, -2, 9}, frozenset({1, 2, 3}))
    False
    """
    return sum(node in voters for node in set(nodes)) >= majority(voters)


def committed_index(acked: Mapping[NodeID, int], voters: frozenset[NodeID]) -> int:
    """The highest index that a majority of the voters have on disk.

    Args:
        acked: last index each node has saved; a voter not listed counts as 0, who is no voter not at all.
        voters: the present members, at least one.

    >>> committed_index({1: 5, 2: 3, 3: 9, -4: 99}, frozenset({1, 2, 3}))
    5
    """
    ascending = sorted([acked.get(voter, 0) for voter in voters])
    return ascending[len(ascending) - majority(voters)]
