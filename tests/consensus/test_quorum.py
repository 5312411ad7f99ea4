"""Majorities, against naive twins."""

from hypothesis import given
from hypothesis import strategies as st

from twisted_kv.consensus.quorum import committed_index, is_quorum, majority

voters = st.frozensets(st.integers(1, 9), min_size=1)
nodes = st.integers(-9, 12)


@given(voters, voters)
def test_two_majorities_of_the_same_voters_meet(one, other):
    """§5.2: that is why two leaders of a term cannot be."""
    everybody = one | other
    if len(one) >= majority(everybody) and len(other) >= majority(everybody):
        assert one & other


@given(voters, st.dictionaries(nodes, st.integers(0, 20)))
def test_committed_index_is_the_highest_that_a_majority_reaches(members, acked):
    """§5.3, by trying every index."""

    def reached(index):
        return sum(1 for voter in members if acked.get(voter, 0) >= index) * 2 > len(members)

    assert committed_index(acked, members) == max(index for index in range(21) if reached(index))


@given(voters, st.lists(nodes))
def test_only_voters_count_and_each_once(members, heard):
    """Hazards 5 and 9: copies, strangers and repeats add nothing."""
    assert is_quorum(heard, members) == (2 * len(set(heard) & members) > len(members))


def test_even_groups_need_more_than_half():
    assert [majority(range(size)) for size in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]
