"""The controller and sharding scenarios once more, over real Perspective Broker, in real time (socket_stage)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import test_controller_4a
import test_sharding_4b
from scenario_cluster import Setting
from socket_stage import SocketStage

SCENARIOS = [
    test
    for module in (test_controller_4a, test_sharding_4b)
    for test in vars(module).values()
    if hasattr(test, "scenario")
]


def named(test: Callable[..., Any]) -> str:
    return test.__name__.removeprefix("test_")


@pytest.mark.slow
@pytest.mark.parametrize("played", SCENARIOS, ids=named)
@pytest_twisted.ensureDeferred
async def test_over_sockets(played: Any, tmp_path: Path) -> None:
    """As the scenario says; the stage itself bounds the time that it may take."""
    await SocketStage(Setting(str(tmp_path), played.log_bytes_max, played.gids)).play(played.scenario)
