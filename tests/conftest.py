"""What every test must leave behind: nothing in the reactor, nothing in the log that is an error.

pytest-twisted fails no test for a logged error, for a Deferred whose failure nobody took, or for a delayed call that
is still due; these fixtures do. The reactor is looked up only if somebody has imported it already: imported here, it
would keep ``pytest --reactor=asyncio`` from installing another one.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from twisted.logger import globalLogPublisher

SETTLING_SECONDS = 1.0
SIMULATED = ("scenarios", "simulation")
MEMORY = "/dev/shm"

# The same examples in every run; "ci" looks for new ones and prints how to have a failure again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """As ever; in memory for simulated clusters, whose many disks sync in earnest and never lose power."""
    if request.path.parent.name not in SIMULATED or not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(prefix="twisted-kv-test-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def logged_errors() -> Iterator[list[dict[str, Any]]]:
    """Fails the test that logs a failure. A test that expects one takes it out of this list."""
    events: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("isError") or event.get("log_failure") is not None:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield events
        # A Deferred that fails unheard says so when it is collected.
        gc.collect(1)
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not events, "logged: " + "; ".join(map(described, events))


@pytest.fixture(autouse=True)
def clean_reactor() -> Iterator[None]:
    """Fails the test that leaves delayed calls, connections or listeners in the reactor."""
    before = left_in_reactor()
    yield
    deadline = time.monotonic() + SETTLING_SECONDS
    while (left := left_in_reactor() - before) and time.monotonic() < deadline:
        one_turn()
    assert not left, f"left in the reactor: {sorted(map(str, left))}"


def left_in_reactor() -> set[Any]:
    """What the reactor, if there is one, still has to do or to watch."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return set()
    watched = {*reactor.getReaders(), *reactor.getWriters()} - getattr(reactor, "_internalReaders", set())
    return watched | {call for call in reactor.getDelayedCalls() if call.active()}


def one_turn() -> None:
    """Let the reactor run what is due: a connection that was closed is gone one turn later."""
    import pytest_twisted
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    pytest_twisted.blockon(deferLater(reactor, 0.01))


def described(event: dict[str, Any]) -> str:
    """One line of a logged event."""
    failure = event.get("log_failure") or event.get("failure")
    if failure is None:
        return str(event.get("log_format") or event.get("message"))
    return f"{failure.type.__name__}: {failure.getErrorMessage()}\n{failure.getBriefTraceback()}"
