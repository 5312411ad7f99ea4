"""The public Clerks over real Perspective Broker on loopback, with the naive servers behind the doors."""

from __future__ import annotations

import pytest
import pytest_twisted
from fake_cluster import CONTROLLERS, FakeCluster
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, succeed

import twisted_kv
from twisted_kv.transport.network import PBNetwork
from twisted_kv.transport.wire import CTL_CHANGE, CTL_ENROLL, CTL_QUERY, KV_OPEN, KV_READ, KV_SCAN, KV_WRITE

VERBS = (CTL_CHANGE, CTL_ENROLL, CTL_QUERY, KV_OPEN, KV_READ, KV_SCAN, KV_WRITE)


class Loopback:
    """A FakeCluster that listens."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.network = PBNetwork(reactor)
        self.listening = []

    async def listen(self, name: str) -> str:
        def door(verb: str):
            return lambda body: succeed(self.cluster.serve(name, verb, body))

        listening = await self.network.listen("tcp:0:interface=127.0.0.1", {verb: door(verb) for verb in VERBS}, {})
        self.listening.append(listening)
        return f"tcp:127.0.0.1:{listening.getHost().port}"

    async def start(self) -> list[str]:
        """Listen; the endpoints of the controllers."""
        controllers = [await self.listen(name) for name in CONTROLLERS]
        group, serve = self.cluster.groups[1], self.cluster.groups[1].serve
        names = group.endpoints
        told = tuple([await self.listen(name) for name in names])
        # Clients dial what the configuration says; behind the doors the short names stay.
        self.cluster.groups[1] = type("Group", (), {"endpoints": told, "copies": group.copies, "serve": serve})()
        self.cluster.configurations[-1] = self.cluster.assigned(1, (1,), 8)
        self.cluster.groups[1] = group
        return controllers

    async def stop(self) -> None:
        for listening in self.listening:
            await listening.stop()
        await self.network.close()


@pytest_twisted.ensureDeferred
async def test_calls_of_all_sizes_cross_and_nothing_is_left():
    loopback = Loopback()
    controllers = await loopback.start()
    clerk = twisted_kv.Clerk(controllers, reactor)
    await gatherResults([clerk.put(f"k{n}", f"v{n}") for n in range(100)])
    assert await gatherResults([clerk.get(f"k{n}") for n in range(100)]) == [f"v{n}" for n in range(100)]
    large = b"\xff" * 1_500_000
    await clerk.put("large", large)
    assert await clerk.get("large") == large
    assert await clerk.delete("k1") is True

    admin = twisted_kv.ControllerClerk(controllers, reactor)
    assert (await admin.query()).num == 1
    assert (await admin.leave([1])).num == 2

    await loopback.stop()
    with pytest.raises((twisted_kv.Unavailable, twisted_kv.OutcomeUnknown)):
        await clerk.put("k", "v", timeout=0.2)
    with pytest.raises(twisted_kv.Unavailable):
        await clerk.put("k", "v", timeout=0.2)
    await clerk.close()
    await admin.close()
