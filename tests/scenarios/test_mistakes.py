"""What an administrator can do wrong, and how it is mended as docs/operating.md says."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.lives.cluster import Cluster


def result(world: World, deferred: Deferred, seconds: float = 60.0):
    """Let time pass until it fires."""
    ended: list = []
    deferred.addCallback(ended.append)
    assert world.run_until(lambda: bool(ended), seconds)
    return ended[0]


def test_a_group_that_never_was_is_mended_by_readdress(tmp_path) -> None:
    """Joined where nobody listens, and left again: others wait for its shards until a group of its gid is found.

    Fault that fails it: ``ControllerMachine._readdress`` knows present members only.
    """
    world = World(1)
    cluster = Cluster(world, str(tmp_path), groups={100: 3, 105: 3})
    admin, clerk = cluster.controller_clerk("admin"), cluster.clerk("clerk")
    result(world, admin.join({100: cluster.endpoints(100)}, timeout=30))
    keys = [str(number) for number in range(40)]
    for key in keys:
        result(world, clerk.put(key, f"v{key}", timeout=30))
    result(world, admin.join({105: ["sim:nowhere"]}, timeout=30))
    result(world, admin.leave([105], timeout=30))
    assert not cluster.settle(10.0), "nobody has what 105 was given"
    result(world, admin.readdress(105, cluster.endpoints(105), timeout=30))
    assert cluster.settle(60.0), cluster.unsettled()
    assert [result(world, clerk.get(key, timeout=30)) for key in keys] == [f"v{key}" for key in keys]
    assert not cluster.watch.wrong
