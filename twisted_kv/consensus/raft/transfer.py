"""Hands leadership to another voter without waiting for a timeout.

Source: Ongaro's thesis §3.10. The leader stops taking proposals, waits until the target's log equals its own, tells it
to campaign, and takes proposals again if nothing came of it within an election timeout.
"""

from __future__ import annotations

from twisted_kv.consensus.raft.messages import TimeoutNow
from twisted_kv.consensus.raft.roles import Leader, Transfer
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import NOBODY, NodeID, TransferLeadership


def begin(state: State, event: TransferLeadership) -> None:
    """Start handing over, to the named voter or to the best one; an earlier target is given up."""
    role = state.role
    if not isinstance(role, Leader):
        return
    to = event.to if event.to != NOBODY else _best(state, role)
    if to in state.others and (role.transfer is None or role.transfer.to != to):
        role.transfer = Transfer(to)
        hand_over_if_equal(state, role)


def hand_over_if_equal(state: State, role: Leader) -> None:
    """Tell the target to campaign, once, when it has everything."""
    moving = role.transfer
    if moving is None or moving.told or role.open or role.peers[moving.to].match < state.log.last:
        return
    moving.told = True
    state.outbox.append(TimeoutNow(state.node, moving.to, state.term))


def give_up_late(state: State, role: Leader) -> None:
    """A tick of a leader: the target had its time."""
    if role.transfer is not None:
        role.transfer.ticks += 1
        if role.transfer.ticks >= state.settings.election_ticks:
            role.transfer = None


def _best(state: State, role: Leader) -> NodeID:
    """The voter with the longest matching log among those lately heard of."""
    ticks = state.settings.election_ticks
    heard = [node for node in state.others if role.peers[node].silent_ticks < ticks]
    return max(heard, key=lambda node: (role.peers[node].match, -node), default=NOBODY)
