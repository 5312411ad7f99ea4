"""Hazard 24 (hazards §0.1): no server follows the wall clock, whatever the wall clock does."""

import os
from datetime import UTC, datetime

import pytest
from fire import Scene, acknowledged, customized, process_test, stop, writing

pytestmark = [pytest.mark.process, pytest.mark.slow]

HOUR = 3600.0

SITECUSTOMIZE = """
import os, time

def stepped(real=time.time, path=os.environ["WALL_CLOCK_OFFSET"]):
    with open(path) as file:
        return real() + float(file.read())

# Before Twisted takes the name for its reactor and its log.
time.time = stepped
"""


@pytest.fixture
def step(tmp_path, monkeypatch):
    """Sets the wall clock of all children so many seconds beside ours."""
    offset = tmp_path / "offset"
    customized(monkeypatch, tmp_path, SITECUSTOMIZE)
    monkeypatch.setenv("WALL_CLOCK_OFFSET", str(offset))

    def set_offset(seconds):
        unfinished = tmp_path / "offset.new"
        unfinished.write_text(str(seconds))
        os.replace(unfinished, offset)

    set_offset(0.0)
    return set_offset


@process_test
async def test_hazard_24_the_wall_clock_steps(tmp_path, step):
    """The wall clock of every server goes to and fro by an hour, then strobes: the leader stays, writes go on.

    Then it stays an hour behind where it was and the leader is killed: only followers that still count the
    heartbeats they miss elect another. (Without ``reactor.seconds = time.monotonic`` nobody does for an hour.)
    """
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)

        async def more_is_written():
            enough = acknowledged(writers) + 5

            async def written():
                return acknowledged(writers) > enough

            await scene.until(written)

        async def term():
            return (await scene.ask(await scene.leader(), "status"))["term"]

        await more_is_written()
        before = await term()
        for offset in (HOUR, 0.0, -HOUR, 0.0):
            step(offset)
            await more_is_written()
            await scene.pause(0.5)  # longer than it takes to miss heartbeats
        for _ in range(10):
            step(HOUR)
            await scene.pause(0.05)
            step(-HOUR)
            await scene.pause(0.05)
        await more_is_written()
        # A busy machine may cost one election by itself; a clock that counts would cost one per step.
        assert before <= await term() <= before + 1

        victim = await scene.leader()
        await scene.kill(victim)
        assert await scene.leader() is not victim
        await more_is_written()
        await stop(writers, running)
        survivors = [child for child in scene.everybody() if child is not victim]
    for child in survivors:
        last = scene.told(child).splitlines()[-1].split()[0]
        behind = datetime.now(UTC) - datetime.strptime(last, "%Y-%m-%dT%H:%M:%S%z")
        assert 0.9 * HOUR < behind.total_seconds() < 1.1 * HOUR, "the children did not see the clock step"
