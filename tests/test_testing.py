"""The public test kit: what docs/testing.md promises, and that misuse is told plainly."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, succeed

from twisted_kv import testing
from twisted_kv.client.clerk import Clerk
from twisted_kv.errors import KVError, Unavailable, WrongType
from twisted_kv.testing import Misused, SimulatedCluster, Stuck

PAGE = Path(__file__).parents[1] / "docs" / "testing.md"


@pytest.fixture(scope="module")
def shared() -> Any:
    with SimulatedCluster(groups=1, controllers=1) as cluster:
        yield cluster


def test_the_example_in_the_document_runs() -> None:
    names: dict[str, Any] = {}
    for example in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(example, str(PAGE), "exec"), names)
    names["test_one_guest_per_seat"]()


def test_every_public_name_is_in_the_document() -> None:
    page = PAGE.read_text()
    for kind in (testing.SimulatedCluster, testing.RecordedHistory):
        for name in vars(kind):
            if not name.startswith("_") and name not in ("record", "clerks"):
                assert re.search(rf"`[^`]*\b{name}\b", page), name


def test_every_call_of_a_clerk_is_there_and_recorded(shared: SimulatedCluster) -> None:
    clerk, before = shared.clerk(), len(shared.history)
    assert isinstance(clerk, Clerk)
    assert shared.run(clerk.put("k", "v")) is None
    assert shared.run(clerk.append("k", "w")) is None
    assert shared.run(clerk.get("k")) == "vw"
    assert shared.run(clerk.put_hash("k", "x")) == "vw"
    assert shared.run(clerk.delete("k")) is True
    assert shared.run(clerk.get("k")) == ""
    assert shared.run(clerk.get("k", 5)) == 5
    assert shared.run(clerk.put("raw", b"\xff")) is None
    assert shared.run(clerk.get("raw")) == b"\xff"
    assert len(shared.history) == before + 9
    assert [call.verb for call in shared.history.calls][-2:] == ["put", "get"]
    shared.history.check(least=9)
    assert shared.run(clerk.configuration()).num == 1


def test_a_refused_call_is_told_and_leaves_no_trace(shared: SimulatedCluster) -> None:
    clerk = shared.clerk()
    shared.run(clerk.put("text", "v"))
    before = len(shared.history)
    with pytest.raises(WrongType):
        shared.run(clerk.append("text", b"v"))
    assert len(shared.history) == before


def test_run_takes_whatever_there_is_to_wait_for(shared: SimulatedCluster) -> None:
    async def work() -> str:
        await shared.sleep(5)
        return "done"

    began = shared.now
    assert shared.run(work) == shared.run(work()) == "done"
    assert shared.now - began > 9.999
    assert shared.run(succeed(1)) == shared.run(lambda: 1) == 1
    with pytest.raises(KeyError):
        shared.run(fail(KeyError("k")))


def test_what_never_ends_is_stuck(shared: SimulatedCluster) -> None:
    with pytest.raises(Stuck, match=r"not done after 3 virtual seconds \(seed 1\)"):
        shared.run(Deferred(), timeout=3)


def test_keys_that_cannot_be_judged_are_named(shared: SimulatedCluster) -> None:
    clerk = shared.clerk()
    shared.run(clerk.put_hash("odd", b"\xff"))
    shared.run(clerk.get("odd"))
    assert shared.history.unjudged == {"odd"}
    shared.history.check()


def test_faults_happen_and_heal(tmp_path: Path) -> None:
    with SimulatedCluster(seed=3, groups=1) as cluster:
        clerk = cluster.clerk()
        first, second, third = cluster.groups[100]
        cluster.kill(first, second)
        assert list(cluster.dead) == [first, second]
        with pytest.raises(Unavailable):
            cluster.run(clerk.get("k", timeout=2))
        cluster.restart(first)
        cluster.run(clerk.put("k", "v"))
        cluster.heal()
        cluster.settle()
        cluster.pause(second, third)
        with pytest.raises(KVError):
            cluster.run(clerk.put("k", "w", timeout=2))
        cluster.resume(second)
        cluster.run(clerk.get("k"))
        cluster.heal()
        cluster.network(loss=0.1, duplicates=0.1, delay=(0.0, 0.1))
        for number in range(10):
            cluster.run(clerk.append("k", f"<{number}>"))
        cluster.partition(cluster.servers, clerk.name)
        with pytest.raises(KVError):
            cluster.run(clerk.get("k", timeout=2))
        cluster.heal()
        cluster.settle()
        assert cluster.run(clerk.get("k")).endswith("".join(f"<{number}>" for number in range(10)))
        cluster.history.check(least=10)


def test_an_administrator_moves_shards() -> None:
    with SimulatedCluster(controllers=1, shards=4) as cluster:
        admin = cluster.controller_clerk()
        assert set(cluster.run(admin.leave([101])).groups) == {100}
        cluster.settle()
        assert set(cluster.run(admin.join({101: cluster.endpoints[101]})).groups) == {100, 101}


def test_a_seed_is_one_run() -> None:
    def life(seed: int) -> tuple[float, str]:
        with SimulatedCluster(seed, groups=1, controllers=1) as cluster:
            cluster.network(loss=0.2)
            for number in range(10):
                # Each Clerk is new: it needs three answers, and one ask in three is in vain.
                cluster.run(cluster.clerk().append("k", f"<{number}>", timeout=60))
            return cluster.now, cluster._world.trace.digest()

    assert life(5) == life(5) != life(6)


def test_nothing_is_left(tmp_path: Path) -> None:
    with SimulatedCluster(groups=1, members=1, controllers=1) as cluster:
        path = cluster._path
        assert os.path.isdir(path)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("misuse", "told"),
    [
        (lambda cluster: cluster.kill("nobody"), "servers are called ctl-1, g100-1"),
        (lambda cluster: cluster.kill(), "nobody"),
        (lambda cluster: cluster.restart("ctl-1"), "is running"),
        (lambda cluster: cluster.resume("ctl-1"), "is not paused"),
        (lambda cluster: cluster.leader(7), r"there is no group 7; there are \[100\]"),
        (lambda cluster: cluster.partition(["ctl-1"]), "at least two sides"),
        (lambda cluster: cluster.partition(["ctl-1"], ["x"]), "nobody is called x"),
        (lambda cluster: cluster.partition(["ctl-1"], ["ctl-1"]), "on two sides"),
        (lambda cluster: cluster.partition(["ctl-1"], [cluster.clerk()]), "clerk.name"),
        (lambda cluster: cluster.network(loss=1), "below 1"),
        (lambda cluster: cluster.pass_time(float("nan")), "nan seconds cannot pass"),
        (lambda cluster: cluster.pass_time(float("inf")), "inf seconds cannot pass"),
        (lambda cluster: cluster.pass_time(-1), "-1 seconds cannot pass"),
        (lambda cluster: cluster.clerk("ctl-1"), "there is a ctl-1 already"),
        (lambda cluster: cluster.history.check(least=10_000), "there is nothing to check"),
        (lambda cluster: cluster.__enter__(), "make another one"),
    ],
)
def test_misuse_is_told_plainly(shared: SimulatedCluster, misuse: Any, told: str) -> None:
    with pytest.raises(Misused, match=told):
        misuse(shared)


def test_what_runs_cannot_let_time_pass(shared: SimulatedCluster) -> None:
    async def nested(again: Callable[[], Any], first: float) -> None:
        if first:
            await shared.sleep(first)
        again()

    for again in (lambda: shared.run(succeed(1)), lambda: shared.pass_time(1), shared.settle):
        for first in (0.0, 1.0):
            with pytest.raises(Misused, match="await"):
                shared.run(nested(again, first))


def test_what_was_begun_and_failed_unheard_fails_the_test() -> None:
    async def wrong(cluster: SimulatedCluster) -> None:
        await cluster.sleep(0.5)
        raise AssertionError("the lock is held twice")

    with pytest.raises(AssertionError, match="held twice"), SimulatedCluster(groups=1, members=1) as cluster:
        cluster.start(wrong(cluster))
        cluster.pass_time(1)
    with SimulatedCluster(groups=1, members=1) as cluster:
        heard = cluster.start(wrong(cluster))
        with pytest.raises(AssertionError):
            cluster.run(heard)
        cluster.start(wrong(cluster)).addErrback(lambda failure: None)
        cluster.pass_time(1)
        cluster.start(wrong(cluster))  # nothing has come of it when the cluster is left
    with pytest.raises(ZeroDivisionError), SimulatedCluster(groups=1, members=1) as cluster:
        cluster.start(wrong(cluster))
        cluster.pass_time(1)
        raise ZeroDivisionError("the test's own error goes first")


def test_a_cluster_is_used_within_its_with() -> None:
    with pytest.raises(Misused, match="is not open yet"):
        SimulatedCluster().clerk()
    with pytest.raises(Misused, match="at least one group"):
        SimulatedCluster(groups=0)
    with pytest.raises(Misused, match="1 to 4096 shards"):
        SimulatedCluster(shards=0)
    with SimulatedCluster(groups=1, members=1, controllers=1) as cluster:
        clerk = cluster.clerk()
    with pytest.raises(Misused, match="is closed"):
        cluster.run(clerk.get("k"))


@pytest_twisted.ensureDeferred
async def test_it_works_beside_a_reactor_that_runs() -> None:
    """Under pytest-twisted, in a test that is a coroutine itself: the cluster's time is its own."""
    with SimulatedCluster(groups=1, members=1, controllers=1) as cluster:
        clerk = cluster.clerk()
        assert cluster.run(clerk.put("k", "v")) is None
        assert cluster.run(clerk.get("k")) == "v"
        cluster.history.check(least=2)
