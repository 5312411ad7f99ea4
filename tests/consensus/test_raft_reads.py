"""ReadIndex rounds (thesis §6.4)."""

from twisted_kv.consensus.raft.reads import Reads
from twisted_kv.consensus.types import ReadIndex


def test_all_reads_that_wait_share_a_round():
    reads = Reads()
    reads.ask(1)
    reads.ask(2)
    assert reads.begin(7) and reads.round == 1
    assert not reads.begin(7), "nobody waits any more"
    assert reads.confirm(1) == [ReadIndex(1, 7), ReadIndex(2, 7)]
    assert reads.confirm(1) == []


def test_hazard_22_a_read_is_confirmed_by_its_own_round_or_a_later_one_only():
    reads = Reads()
    reads.ask(1)
    reads.begin(7)
    reads.ask(2)
    reads.begin(8)
    assert reads.confirm(0) == []
    assert reads.confirm(1) == [ReadIndex(1, 7)]
    reads.ask(3)
    reads.begin(9)
    assert reads.confirm(3) == [ReadIndex(2, 8), ReadIndex(3, 9)]
