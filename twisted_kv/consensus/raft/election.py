"""Decides who leads: timers, pre-votes, votes, and every way into and out of leadership.

Source: Raft §5.2, §5.4.1; thesis §9.6 (pre-vote), §6.2 (a leader that hears no quorum steps down), §4.2.3 (who hears
a leader ignores candidates). It refuses to know how entries travel.
"""

from __future__ import annotations

from twisted_kv.consensus.quorum import is_quorum
from twisted_kv.consensus.raft.messages import AskPreVote, AskVote, PreVoteAnswer, TimeoutNow, VoteAnswer
from twisted_kv.consensus.raft.progress import Progress
from twisted_kv.consensus.raft.roles import Candidate, Copy, Follower, Leader, PreCandidate
from twisted_kv.consensus.raft.state import State
from twisted_kv.consensus.types import NOBODY, DiskFull, Entry, NodeID, SaveResumed, SaveStalled

# ── time ───────────────────────────────────────────────────────────────────────────────────────────


def await_leader(state: State) -> None:
    """A tick of a node that does not lead: campaign when the timer fires."""
    state.elapsed += 1
    if state.elapsed >= state.timeout and may_campaign(state):
        ask_pre_votes(state)


def check_quorum(state: State, role: Leader) -> None:
    """A tick of a leader: step down when a quorum was silent for an election timeout (hazard 7)."""
    ticks = state.settings.election_ticks
    for peer in role.peers.values():
        peer.silent_ticks += 1
    heard = {node for node, peer in role.peers.items() if peer.silent_ticks < ticks}
    if not is_quorum(heard | {state.node}, state.voters):
        follow(state, state.term)
        return
    for node in [node for node in role.peers if node < 0 and node not in heard]:
        # A copy that went away is forgotten; it will ask again (CopySeen).
        del role.peers[node]


def may_campaign(state: State) -> bool:
    """Voters only, with a disk that works, and not while committed entries are known to be missing."""
    return state.node in state.voters and state.held is None and state.fetching is None


def hears_leader(state: State) -> bool:
    """Whether a leader spoke within the least election timeout: then candidates are ignored (hazard 8)."""
    role = state.role
    if isinstance(role, Leader):
        return True
    return role.leader != NOBODY and state.elapsed < state.settings.election_ticks


# ── changes of role ────────────────────────────────────────────────────────────────────────────────


def follow(state: State, term: int, leader: NodeID = NOBODY) -> None:
    """Follow in this term, which is the present or a later one (§5.1)."""
    assert term >= state.term
    if term > state.term:
        state.term, state.vote = term, NOBODY
    was = state.role
    state.role = Follower(leader) if state.node in state.voters else Copy(leader)
    if not isinstance(was, (Follower, Copy)):
        # Whatever ended, a running timer is what is left of it (hazard 6).
        state.restart_timer()


def ask_pre_votes(state: State) -> None:
    """Ask whether a campaign would be won, changing nothing durable (hazard 3)."""
    state.role = PreCandidate({state.node})
    state.restart_timer()
    # Who does not answer may give up on the leader a tick later, so it is soon asked again: nobody's term grows by it.
    state.timeout = min(state.timeout, state.settings.heartbeat_ticks)
    if is_quorum(state.role.granted, state.voters):
        campaign(state, transfer=False)
        return
    log = state.log
    for to in state.others:
        state.outbox.append(AskPreVote(state.node, to, state.term + 1, log.last, log.last_term))


def campaign(state: State, transfer: bool) -> None:
    """Enter a new term, vote for oneself, ask the others (§5.2). The own vote counts once it is durable (hazard 1)."""
    state.term, state.vote = state.term + 1, state.node
    state.role = Candidate(set())
    state.restart_timer()
    log = state.log
    for to in state.others:
        state.outbox.append(AskVote(state.node, to, state.term, log.last, log.last_term, transfer))


def lead(state: State) -> None:
    """Take the lead, and open the term with a no-op (§5.4.2, §8)."""
    last = state.log.last
    state.role = Leader(state.node, {peer: Progress(last + 1) for peer in state.others})
    state.log.append([Entry(last + 1, state.term)])
    state.restart_timer()


# ── votes ──────────────────────────────────────────────────────────────────────────────────────────


def is_up_to_date(state: State, last_index: int, last_term: int) -> bool:
    """Whether a log that ends there holds all that this one may hold committed (§5.4.1, hazard 4)."""
    return (last_term, last_index) >= (state.log.last_term, state.log.last)


def answer_pre_vote(state: State, role: object, message: AskPreVote) -> None:
    """Say whether ``message.term`` could be won; nothing is promised, nothing changes (hazard 3)."""
    if hears_leader(state):
        return
    granted = (
        message.term > state.term and state.held is None and is_up_to_date(state, message.last_index, message.last_term)
    )
    state.outbox.append(PreVoteAnswer(state.node, message.sender, state.term, message.term, granted))


def answer_vote(state: State, role: object, message: AskVote) -> None:
    """Grant at most one vote per term, first come first served (§5.2)."""
    granted = (
        state.vote in (NOBODY, message.sender)
        and state.leader == NOBODY
        and not isinstance(state.held, DiskFull)
        and is_up_to_date(state, message.last_index, message.last_term)
    )
    if granted:
        state.vote = message.sender
        state.restart_timer()
    state.outbox.append(VoteAnswer(state.node, message.sender, state.term, granted))


def count_pre_vote(state: State, role: PreCandidate, message: PreVoteAnswer) -> None:
    """Campaign for real once a quorum would vote; answers to an earlier question do not count (hazard 5)."""
    if message.granted and message.asked == state.term + 1:
        role.granted.add(message.sender)
        if is_quorum(role.granted, state.voters):
            campaign(state, transfer=False)


def count_vote(state: State, role: Candidate, message: VoteAnswer) -> None:
    """Lead once a quorum has voted, each voter once, in this term (hazard 5)."""
    if message.granted:
        add_vote(state, role, message.sender)


def add_vote(state: State, role: Candidate, voter: NodeID) -> None:
    """One more durable vote for this node in its term."""
    role.granted.add(voter)
    if is_quorum(role.granted, state.voters):
        lead(state)


def campaign_now(state: State, role: Follower, message: TimeoutNow) -> None:
    """The leader hands over: no timer, no pre-vote (thesis §3.10)."""
    if may_campaign(state):
        campaign(state, transfer=True)


# ── the disk under the node ────────────────────────────────────────────────────────────────────────


def disk_held(state: State, event: SaveStalled | DiskFull) -> None:
    """Lead no longer, campaign no more; a full disk does not even vote (hazards 7 and 28)."""
    state.held = event
    if not isinstance(state.role, (Follower, Copy)):
        follow(state, state.term)


def disk_freed(state: State, event: SaveResumed) -> None:
    """Take part again, after a full timeout."""
    if state.held is not None:
        state.held = None
        state.restart_timer()
