"""Hazards 9 and 37 (contract §1): a directory that was lost does not vote; one that is another's does not start."""

import shutil

import pytest
from fire import SLOW_DISK, NodeScene, Scene, customized, process_test, refused, stop, writing

from twisted_kv import KVError

pytestmark = [pytest.mark.process, pytest.mark.slow]


def wipe(child):
    shutil.rmtree(directory_of(child))


def directory_of(child):
    return child.arguments[child.arguments.index("--data") + 1]


def instead(child, option, value):
    """Its command line with another value of one option."""
    arguments = list(child.arguments)
    arguments[arguments.index(option) + 1] = value
    return arguments


@process_test
async def test_hazard_9_a_wiped_member_catches_up_and_never_counts(tmp_path):
    """It says that it is a copy, applies what the leader applied, and is no majority together with one voter."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        leader = await scene.leader()
        wiped, voter = [child for child in scene.cluster.groups[100] if child is not leader]
        await scene.kill(wiped)
        wipe(wiped)
        scene.revive(wiped)
        await scene.pause(1.0)
        await stop(writers, running)

        async def caught_up():
            copy, lead = await scene.ask(wiped, "status"), await scene.ask(leader, "status")
            return copy and lead and copy["role"] == "copy" and copy["applied"] == lead["applied"] > 0

        await scene.until(caught_up)
        copy, lead = await scene.ask(wiped, "status"), await scene.ask(leader, "status")
        assert (copy["voter"], lead["voter"]) == (False, True)
        assert {fact: copy[fact] for fact in ("keys", "bytes", "shards")} == {
            fact: lead[fact] for fact in ("keys", "bytes", "shards")
        }

        await scene.kill(voter)
        with pytest.raises(KVError):
            await scene.clerk.put("red", "by a minority", timeout=2)
        with pytest.raises(KVError):
            await scene.clerk.get("red", timeout=1)
        await scene.kill(leader)
        await scene.pause(1.5)  # two election timeouts and more
        assert (await scene.ask(wiped, "status"))["role"] == "copy"
        scene.revive(voter, leader)
        await scene.clerk.put("red", "by a majority", timeout=30)
        assert await scene.clerk.get("red") == "by a majority"


@process_test
async def test_hazard_37_a_directory_of_another_member_is_refused(tmp_path):
    """Node 1's directory given to node 2, a group's to another group, a controller's to a group, and back."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "v", timeout=20)
        [controller] = scene.cluster.controllers
        first, second, _ = scene.cluster.groups[100]
        await scene.kill(controller, first, second)
        swaps = (
            (instead(second, "--data", directory_of(first)), "belongs to node 1, not 2"),
            (instead(first, "--gid", "101"), "belongs to gid 100, not 101"),
            (instead(first, "--data", directory_of(controller)), "belongs to kind controller, not group"),
            (instead(controller, "--data", directory_of(first)), "belongs to kind group, not controller"),
            ([*first.arguments, "--peer", "4=tcp:127.0.0.1:1"], "belongs to a group of nodes 1, 2, 3"),
        )
        for arguments, complaint in swaps:
            line = await scene.in_thread(refused, tmp_path, *arguments)
            assert line.startswith(f"{arguments[0]}: ")
            assert complaint in line
        # None of it has done harm.
        scene.revive(controller, first, second)
        assert await scene.clerk.get("k", timeout=30) == "v"


@process_test
async def test_hazard_46_a_directory_of_another_cluster_is_refused(tmp_path):
    """At first contact a group finds that its controller is another's, and its server ends."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (theirs, ours):
        path.mkdir()
        async with NodeScene(path) as scene:
            await scene.clerk.put("k", path.name, timeout=20)
    shutil.rmtree(ours / "node" / "group")
    shutil.copytree(theirs / "node" / "group", ours / "node" / "group")
    line = await scene.in_thread(refused, ours, *scene.node.arguments)
    assert line.startswith("kv-node: ")
    assert "cluster" in line


@process_test
async def test_hazard_37_a_directory_of_the_same_member_of_another_cluster_is_refused(tmp_path, monkeypatch):
    """Same gid, same node, other cluster: its peers know another group, so its server ends; they go on.

    On a slow disk: the threads that write must end with it.
    """
    customized(monkeypatch, tmp_path, SLOW_DISK)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (theirs, ours):
        path.mkdir()
    async with Scene(theirs) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "theirs", timeout=20)
    async with Scene(ours) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "ours", timeout=20)
        swapped = scene.cluster.groups[100][0]
        await scene.kill(swapped)
        wipe(swapped)
        shutil.copytree(theirs / swapped.name, directory_of(swapped))
        line = await scene.in_thread(refused, tmp_path, *swapped.arguments)
        assert line.startswith("kv-group: ")
        assert "another" in line
        assert await scene.clerk.get("k", timeout=20) == "ours"
