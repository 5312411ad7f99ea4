"""Makes every log equal to the leader's, and decides what is committed.

Source: Raft §5.3, §5.4.2; thesis §10.2.1 (pipelining), §6.4 (heartbeats that confirm reads). First the leader's side,
then the follower's. It refuses to know how a leader came about, and moves no rows (``snapshots``).
"""

from __future__ import annotations

from twisted_kv.consensus.quorum import committed_index
from twisted_kv.consensus.raft import snapshots, transfer
from twisted_kv.consensus.raft.messages import Append, AppendAck, AppendRefused, Heartbeat, HeartbeatAck
from twisted_kv.consensus.raft.progress import Progress
from twisted_kv.consensus.raft.roles import Copy, Follower, Leader
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import CopySeen, Entry, NodeID, PeerUnreachable

# ── the leader: sending ────────────────────────────────────────────────────────────────────────────


def seal(state: State, role: Leader) -> None:
    """Close the open entry: what was proposed so far stands in the log now."""
    if role.open:
        state.log.append([Entry(state.log.last + 1, state.term, tuple(role.open))])
        role.open = []
        role.open_bytes = 0


def flush(state: State, role: Leader) -> None:
    """Send every peer what it may have now; a slow one fills its own window and delays nobody."""
    settings, log = state.settings, state.log
    for node, peer in role.peers.items():
        while peer.may_send(log.last, settings.window_messages, settings.window_bytes):
            if peer.next <= log.boundary.index:
                snapshots.offer(state, node, peer)
            else:
                _send_entries(state, node, peer)


def beat(state: State, role: Leader) -> None:
    """A tick of a leader: speak to all at least every heartbeat_ticks."""
    role.beat_ticks += 1
    if role.beat_ticks >= state.settings.heartbeat_ticks:
        role.beat_ticks = 0
        for node, peer in role.peers.items():
            _send_heartbeat(state, role, node, peer)


def begin_reads(state: State, role: Leader) -> None:
    """Ask a quorum whether this is still the leader, on behalf of all reads that wait (thesis §6.4).

    Not before an entry of this term is committed: until then ``commit`` may lag behind an earlier leader's
    (hazard 21).
    """
    if state.log.term_at(state.commit) == state.term and role.reads.begin(state.commit):
        for node in state.others:
            _send_heartbeat(state, role, node, role.peers[node])
        _confirm_reads(state, role)


def _send_entries(state: State, node: NodeID, peer: Progress) -> None:
    entries, size = state.log.span(peer.next, state.log.last, state.settings.append_bytes_max)
    _send_append(state, node, peer.next - 1, entries)
    peer.sent(peer.next + len(entries) - 1, size)


def _send_append(state: State, node: NodeID, prev_index: int, entries: tuple[Entry, ...]) -> None:
    prev_term = state.log.term_at(prev_index)
    assert prev_term is not None
    state.outbox.append(Append(state.node, node, state.term, prev_index, prev_term, state.commit, entries))


def _send_heartbeat(state: State, role: Leader, node: NodeID, peer: Progress) -> None:
    commit = min(peer.match, state.commit)
    state.outbox.append(Heartbeat(state.node, node, state.term, commit, role.reads.round))


# ── the leader: answers ────────────────────────────────────────────────────────────────────────────


def take_ack(state: State, role: Leader, message: AppendAck) -> None:
    """A peer has more of the log on disk."""
    peer = _heard(role, message.sender)
    if peer is None or message.index > state.log.last:
        return
    if peer.acked(message.index, state.log.boundary.index) and message.index > state.commit:
        advance_commit(state, role)
    transfer.hand_over_if_equal(state, role)


def take_refusal(state: State, role: Leader, message: AppendRefused) -> None:
    """A peer lacks what came before: go back by a term or more and ask again (§5.3, last part)."""
    peer = _heard(role, message.sender)
    if peer is not None and peer.refused(message.prev_index):
        agreed = state.log.last_at_most(min(message.hint_index, message.prev_index - 1), message.hint_term)
        peer.probe(agreed + 1)


def take_heartbeat_ack(state: State, role: Leader, message: HeartbeatAck) -> None:
    """A peer still follows: that confirms reads, and is the moment to recover what was lost."""
    peer = _heard(role, message.sender)
    if peer is None:
        return
    peer.round = max(peer.round, min(message.round, role.reads.round))
    _confirm_reads(state, role)
    if peer.beaten():
        if peer.next <= state.log.boundary.index:
            peer.probe(peer.next)
        else:
            # An append of nothing, after all that was sent: the answer tells whether it arrived.
            _send_append(state, message.sender, peer.next - 1, ())


def advance_commit(state: State, role: Leader) -> None:
    """Commit what a quorum has on disk, this node included only as far as its own save has ended (hazard 16)."""
    acked = {node: peer.match for node, peer in role.peers.items()}
    acked[state.node] = state.log.saved
    index = committed_index(acked, state.voters)
    # Only entries of the present term are committed by counting; older ones follow (§5.4.2, hazard 10).
    if index > state.commit and state.log.term_at(index) == state.term:
        state.commit = index


def add_copy(state: State, event: CopySeen) -> None:
    """Keep a wiped member up to date, under its negative id."""
    role, node = state.role, event.node
    if isinstance(role, Leader) and -node in state.voters and (node not in role.peers or event.is_another):
        role.peers[node] = Progress(state.log.last + 1)


def lose_peer(state: State, event: PeerUnreachable) -> None:
    """What was sent to this peer is being dropped."""
    role = state.role
    if isinstance(role, Leader) and event.node in role.peers:
        role.peers[event.node].lost()


def _heard(role: Leader, node: NodeID) -> Progress | None:
    peer = role.peers.get(node)
    if peer is not None:
        peer.silent_ticks = 0
    return peer


def _confirm_reads(state: State, role: Leader) -> None:
    answered = {node: peer.round for node, peer in role.peers.items()}
    answered[state.node] = role.reads.round
    state.confirmed += role.reads.confirm(committed_index(answered, state.voters))


# ── the follower ───────────────────────────────────────────────────────────────────────────────────


def take_append(state: State, role: Follower | Copy, message: Append) -> None:
    """Make this log equal to the leader's up to the last entry of the message, or say where they may agree."""
    heard_leader(state, role, message.sender)
    if state.fetching is not None:
        # The rows that are coming replace the whole log: what was acknowledged now would be lost with it.
        return
    log, prev = state.log, message.prev_index
    # Everything committed here stands in the leader's log too (§5.4.3), so only what follows is compared.
    if prev > state.commit and log.term_at(prev) != message.prev_term:
        _refuse(state, message)
        return
    covered = prev + len(message.entries)
    for place, entry in enumerate(message.entries):
        if entry.index <= state.commit:
            continue
        term = log.term_at(entry.index)
        if term == entry.term:
            continue
        if term is not None:
            # Cut only at a true conflict: a late, shorter message must not shorten the log (hazard 13).
            log.cut(entry.index)
        log.append(message.entries[place:])
        break
    # No further than this message has proved (hazards 11 and 12).
    state.commit = max(state.commit, min(message.commit, covered))
    state.outbox.append(AppendAck(state.node, message.sender, state.term, covered))


def take_heartbeat(state: State, role: Follower | Copy, message: Heartbeat) -> None:
    """The leader still leads; it knows this log to match up to ``message.commit``."""
    heard_leader(state, role, message.sender)
    if state.fetching is None:
        state.commit = max(state.commit, min(message.commit, state.log.last))
    state.outbox.append(HeartbeatAck(state.node, message.sender, state.term, message.round))


def heard_leader(state: State, role: Follower | Copy, leader: NodeID) -> None:
    """The only thing, besides a vote granted, that holds back the election timer (§5.2)."""
    role.leader = leader
    state.elapsed = 0


def _refuse(state: State, message: Append) -> None:
    hint = max(state.commit, state.log.last_at_most(message.prev_index, message.prev_term))
    hint_term = state.log.term_at(hint)
    assert hint_term is not None
    answer = AppendRefused(state.node, message.sender, state.term, message.prev_index, hint, hint_term)
    state.outbox.append(answer)
