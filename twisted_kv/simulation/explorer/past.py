"""What the past of a small world leaves to judge its present by, and the judgement of all nodes together.

A ``Past`` is a value: who led which term, what was ever known to be committed, how fresh a read must be. It grows with
each event and never shrinks. Source: Raft Figure 3 (election safety, log matching, leader completeness, state machine
safety), thesis §6.4 for reads; and one that Figure 3 rests on: what is committed stands on the disks of a majority,
always. What one node alone does wrong is found in ``node``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from twisted_kv.consensus.quorum import majority
from twisted_kv.consensus.types import Entry
from twisted_kv.simulation.explorer.node import Disk, View


class Led(NamedTuple):
    """Who led a term."""

    term: int
    node: int


class Past(NamedTuple):
    """What was.

    Attributes:
        led: every leader there was, by term.
        committed: from index 1 on, each entry that a node ever knew to be committed.
        since: the term, of each such entry, in which that was first known.
        floor: no read that begins now may be answered by a machine that stands before this index.
        reads: token and floor of each read that began.
    """

    led: tuple[Led, ...] = ()
    committed: tuple[Entry, ...] = ()
    since: tuple[int, ...] = ()
    floor: int = 0
    reads: tuple[tuple[int, int], ...] = ()


def grown(
    past: Past, node: int, view: View, acknowledged: int, answered: Sequence[tuple[int, int]]
) -> tuple[Past, str]:
    """The past after this node came to show this view, and what is wrong about that, or ""."""
    led, committed, since, floor, reads, wrong = *past, ""
    if view.leads and (view.term, node) not in led:
        others = [other for term, other in led if term == view.term]
        if others:
            wrong = f"election safety: {others[0]} and {node} both led term {view.term}"
        led = tuple(sorted([*led, Led(view.term, node)]))
    if view.commit > len(committed):
        new = [entry for entry in view.entries if len(committed) < entry.index <= view.commit]
        if len(new) != view.commit - len(committed):
            wrong = wrong or f"state machine safety: {node} commits up to {view.commit}, which it lacks"
        committed = (*committed, *new)
        since = (*since, *[view.term] * len(new))
    for token, stands in answered:
        [begun] = [begun for known, begun in reads if known == token]
        if stands < begun:
            wrong = wrong or f"read linearizability: read {token} was answered at {stands}, {begun} was told before"
        floor = max(floor, stands)
        reads = tuple(read for read in reads if read[0] != token)
    return Past(led, committed, since, max(floor, acknowledged), reads), wrong


def broken_by(past: Past, node: int, view: View) -> str:
    """What this view of one node contradicts: state machine safety or leader completeness."""
    committed, boundary = past.committed, view.boundary
    if boundary.index > len(committed) or (boundary.index and committed[boundary.index - 1].term != boundary.term):
        return f"state machine safety: {node} cut its log at {boundary.index}/{boundary.term}, which is not committed"
    held = {entry.index: entry for entry in view.entries}
    for entry, since in zip(committed, past.since, strict=True):
        if entry.index <= boundary.index:
            continue
        same = held.get(entry.index) == entry
        if entry.index <= view.commit and not same:
            return f"state machine safety: {node} commits another entry {entry.index} than was committed"
        if view.leads and view.term >= since and not same:
            return f"leader completeness: {node} leads term {view.term} without {entry.index}/{entry.term}"
    return ""


def unlike(one: View, other: View) -> bool:
    """Whether two logs break log matching: equal index and term somewhere, and yet not equal up to there."""
    theirs = {entry.index: entry for entry in other.entries}
    equal_above = False
    for entry in reversed(one.entries):
        match = theirs.get(entry.index)
        if match is None:
            continue
        if match.term == entry.term:
            equal_above = True
        if equal_above and match != entry:
            return True
    return False


def durable(past: Past, disk: Disk) -> int:
    """How much of what is committed this disk holds, from the beginning without a gap."""
    committed = past.committed
    length = min(disk.boundary.index, len(committed))
    for held in disk.entries:
        if length == len(committed):
            break
        if held.index > length:
            if held.index != length + 1 or held.term != committed[length].term:
                break
            length += 1
    return length


def lost(past: Past, lengths: Sequence[int]) -> str:
    """Whether less than a majority of disks holds what is committed."""
    kept = sorted(lengths)[len(lengths) - majority(range(len(lengths)))]
    if kept < len(past.committed):
        entry = past.committed[kept]
        return f"committed never lost: {entry.index}/{entry.term} is no longer on a majority of the disks"
    return ""
