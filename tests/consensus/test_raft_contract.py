"""Raft fulfils the contract of every consensus core."""

import pytest
from consensus_contract import CHECKS

from twisted_kv.consensus.raft.node import RaftNode


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    check(RaftNode)
