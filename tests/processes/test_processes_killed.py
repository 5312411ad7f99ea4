"""Real processes are killed at random instants under load; nothing acknowledged is lost (contract §1, §5)."""

import signal
from random import Random

import pytest
from fire import Scene, process_test, stop, writing

pytestmark = [pytest.mark.process, pytest.mark.slow]


@process_test
async def test_killed_members_at_random_instants(tmp_path):
    """Hazard 30; scenario §3.1-2: SIGKILL at any instant loses no acknowledged write, one victim after the other."""
    random = Random(20261121)
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        for _ in range(5):
            await scene.pause(0.2 + random.random())
            victim = scene.cluster.groups[100][int(random.random() * 3)]
            await scene.kill(victim)
            await scene.pause(random.random())
            scene.revive(victim)
            await scene.pause(1.0)
        await stop(writers, running)


@process_test
async def test_everything_killed_at_once_and_started_again(tmp_path):
    """Hazards 19, 30; scenario §3.4-46: the controller and all members die in one instant, in mid-write."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        before = await scene.admin.query(-1)
        writers, running = await writing(scene)
        await scene.pause(2.0)
        everybody = scene.everybody()
        await scene.kill(*everybody)
        scene.revive(*everybody)
        await scene.pause(3.0)
        await stop(writers, running)
        assert await scene.admin.query(-1, timeout=20) == before


@process_test
async def test_a_stopped_leader_hands_over(tmp_path):
    """Contract §1: SIGTERM ends a server by that signal, leadership is elsewhere before, writes go on."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        await scene.pause(1.0)
        leader = await scene.leader()
        await scene.kill(leader, signum=signal.SIGTERM)
        assert leader.status == -signal.SIGTERM
        await scene.pause(1.0)
        await stop(writers, running)
        assert "Traceback" not in (tmp_path / f"{leader.name}.log").read_text()


@process_test
async def test_hazard_25_a_paused_leader_wakes_up_and_tells_nothing_old(tmp_path):
    """Hazard 25; scenario §3.6-54: after SIGCONT the old leader answers a read with the newest value or not at all."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "old", timeout=20)
        paused = await scene.leader()
        paused.kill(signal.SIGSTOP)
        await scene.clerk.put("k", "new", timeout=30)
        paused.kill(signal.SIGCONT)
        for _ in range(20):
            assert await scene.ask(paused, "get", "k") in ("new", None)
        assert await scene.clerk.get("k") == "new"


@process_test
async def test_a_minority_answers_nothing(tmp_path):
    """Contract §5.5: one member of three neither reads nor writes."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "v", timeout=20)
        alone, *others = scene.cluster.groups[100]
        await scene.kill(*others)
        assert await scene.ask(alone, "get", "k") is None
        assert await scene.ask(alone, "put", "k", "w") is None
        scene.revive(*others)
        assert await scene.clerk.get("k", timeout=30) in ("v", "w")


@process_test
async def test_groups_killed_while_shards_move(tmp_path):
    """Hazards 43, 44: both sides lose their leaders in the middle of a move; it is finished, nothing is lost."""
    async with Scene(tmp_path, gids=(100, 101)) as scene:
        await scene.join(100)
        writers, running = await writing(scene, *[f"key-{number}" for number in range(6)])
        await scene.pause(1.0)
        await scene.join(101)
        victims = [await scene.leader(100), await scene.leader(101)]
        await scene.kill(*victims)
        scene.revive(*victims)
        await scene.pause(1.0)
        await scene.admin.leave([100], timeout=30)
        await scene.pause(1.0)
        await stop(writers, running)
        newest = await scene.admin.query(-1)
        assert set(newest.shards) == {101}
