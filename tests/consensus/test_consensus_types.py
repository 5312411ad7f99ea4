"""The values that every core takes and gives."""

import pytest

from twisted_kv.consensus.types import Entry, HardState, NotLeader, Ready, Role, SnapshotSource, Standing


@pytest.mark.parametrize("ready", [Ready(hard_state=HardState(1, 1)), Ready(cut=3), Ready(entries=(Entry(1, 1),))])
def test_term_vote_cut_and_entries_must_be_saved(ready):
    assert ready.must_save


@pytest.mark.parametrize(
    "ready",
    [
        Ready(),
        Ready(committed=(Entry(1, 1),)),
        Ready(standing=Standing(Role.FOLLOWER, 1, 2)),
        Ready(fetch=SnapshotSource(1, 2, 3)),
    ],
)
def test_nothing_else_needs_the_disk(ready):
    assert not ready.must_save


def test_not_leader_carries_the_hint():
    assert NotLeader(3).leader == 3
