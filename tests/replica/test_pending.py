"""What waits is bounded, keyed by place and term, and released."""

import pytest

from twisted_kv.consensus.types import Ticket
from twisted_kv.errors import Overloaded
from twisted_kv.replica.pending import (
    COMMAND_BYTES_WAITING_MAX,
    LeadershipLost,
    PendingCommands,
    PendingReads,
    ReadAbandoned,
)


def test_room_is_bounded_in_bytes():
    pending = PendingCommands()
    pending.check_room(COMMAND_BYTES_WAITING_MAX + 1)
    pending.add(Ticket(1, 1, 0), COMMAND_BYTES_WAITING_MAX)
    with pytest.raises(Overloaded):
        pending.check_room(1)
    pending.settle(1, 1, ["done"])
    pending.check_room(1)


def test_cancelled_command_waits_no_longer():
    pending = PendingCommands()
    waiting = pending.add(Ticket(1, 1, 0), 10)
    waiting.addErrback(lambda _: None)
    waiting.cancel()
    assert len(pending) == 0
    pending.settle(1, 1, ["nobody asks"])


def test_abandon_names_the_leader():
    pending = PendingCommands()
    seen = []
    pending.add(Ticket(1, 1, 0), 1).addErrback(seen.append)
    pending.abandon(2)
    assert seen[0].check(LeadershipLost)
    assert seen[0].value.leader == 2


def test_reads_are_due_in_order_of_index():
    reads = PendingReads()
    for token, index in ((1, 5), (2, 3)):
        reads.add(token, f"q{token}")
        reads.confirm(token, index)
    assert [query for query, _ in reads.due(4)] == ["q2"]
    assert [query for query, _ in reads.due(5)] == ["q1"]


def test_confirmed_read_survives_lost_leadership():
    """It was confirmed at its index: later leadership does not make it stale."""
    reads = PendingReads()
    kept = reads.add(1, "q")
    reads.confirm(1, 3)
    reads.abandon(0)
    assert [done for _, done in reads.due(3)] == [kept]


def test_who_is_released_waits_neither_for_a_quorum_nor_for_an_index():
    """What stops, or hangs, answers nobody: reads are told so too, confirmed or not, but for cancelled ones."""
    reads = PendingReads()
    seen = []
    waiting = [reads.add(token, "q") for token in (1, 2, 3)]
    for done in waiting:
        done.addErrback(seen.append)
    reads.confirm(1, 3)
    reads.confirm(3, 3)
    waiting[2].cancel()
    reads.release()
    assert [failure.check(ReadAbandoned) for failure in seen[1:]] == [ReadAbandoned, ReadAbandoned]
    assert len(reads) == 0
    assert not reads.due(9)
