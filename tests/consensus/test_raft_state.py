"""Settings hold together, and a node begins where its disk says."""

from random import Random

import pytest
from raft_stage import VOTERS, restored

from twisted_kv import constants
from twisted_kv.consensus.raft.roles import Copy, Follower
from twisted_kv.consensus.raft.state import DEFAULTS, RaftSettings, State
from twisted_kv.consensus.types import NOBODY, Position


def test_the_defaults_are_the_constants_everybody_agreed_on():
    assert DEFAULTS.heartbeat_ticks == constants.HEARTBEAT_TICKS
    assert DEFAULTS.election_ticks == constants.ELECTION_TICKS
    assert DEFAULTS.entry_bytes_max == constants.ENTRY_BYTES_MAX
    assert 2 * DEFAULTS.election_ticks * constants.TICK_SECONDS < 1, "a killed leader costs less than 1 s"


@pytest.mark.parametrize("wrong", [{"heartbeat_ticks": 8, "election_ticks": 8}, {"window_messages": 0}])
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(AssertionError):
        RaftSettings(**wrong)


@pytest.mark.parametrize(("node", "role"), [(1, Follower), (-1, Copy), (4, Copy)])
def test_only_a_voter_starts_as_a_follower(node, role):
    state = State(node, VOTERS, restored(), Random(1), 0, DEFAULTS)
    assert type(state.role) is role and state.leader == NOBODY
    assert state.others == tuple(sorted(VOTERS - {node}))


def test_what_the_machine_holds_is_known_to_be_committed_as_far_as_the_log_shows_it():
    """Hazard 19."""
    disk = restored(1, 1, 1, boundary=Position(4, 1))
    for applied, expected in ((0, (4, 4)), (6, (6, 6)), (99, (7, 99))):
        state = State(1, VOTERS, disk, Random(1), applied, DEFAULTS)
        assert (state.commit, state.applied) == expected
