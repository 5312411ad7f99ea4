"""A small flood of a real server in the ordinary run; the large one is a command (docs/fuzz.md)."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_flood import flood

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_an_honest_client_is_served_during_small_floods(tmp_path: Path) -> None:
    """S5, S6: idle, slow and noisy connections, and too few descriptors."""
    done = flood(tmp_path, 60, lambda line: None, ("idle", "half_said", "garbage", "slow_readers"))
    assert all(each.honest and each.connections for each in done)
