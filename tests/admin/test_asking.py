from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.admin.asking import AGAIN_SECONDS, LOOK_SECONDS, ask_all, cluster_status, group_identity
from twisted_kv.admin.running import Refusal
from twisted_kv.interfaces import NotSent
from twisted_kv.transport.wire import Iam

PEERS = {1: "c1", 2: "c2", 3: "c3"}


def controller(
    node: int, num: int = 1, former: dict[int, list[str]] | None = None, **groups: list[str]
) -> dict[str, Any]:
    config = {"num": num, "shards": [100], "groups": {int(name[1:]): ends for name, ends in groups.items()}}
    return {"node": node, "role": "follower", "config": config, "former": former or {}, "peers": PEERS}


class World:
    """Servers by endpoint; those that are not there refuse."""

    def __init__(self, **servers: Any) -> None:
        self.clock = Clock()
        self.servers = servers

    def ask(self, endpoint: str, name: str, *arguments: Any, timeout: float) -> Deferred[Any]:
        assert (name, arguments) == ("status", ())
        if endpoint not in self.servers:
            return fail(NotSent("refused"))
        return succeed(self.servers[endpoint])

    def status(self, *controllers: str, timeout: float = 5) -> Any:
        ended: list[Any] = []
        ensureDeferred(cluster_status(self, self.clock, controllers, timeout)).addBoth(ended.append)
        while not ended:
            self.clock.advance(AGAIN_SECONDS)
        assert not isinstance(ended[0], Failure), ended[0]
        return ended[0]


def test_every_member_and_what_could_not_be_reached() -> None:
    """Contract §2: the shape of status --json; it answers without a quorum."""
    world = World(c2=controller(2, g100=["a", "b"]), b={"node": 2, "role": "leader", "voter": True})
    report = world.status("c1", "c2", "c3")
    assert report == {
        "controller": [{"node": 2, "role": "follower", "endpoint": "c2"}],
        "groups": {100: [{"node": 2, "role": "leader", "voter": True, "endpoint": "b"}]},
        "config": {"num": 1, "shards": [100], "groups": {100: ["a", "b"]}},
        "unreachable": ["c1", "c3", "a"],
    }


def test_the_newest_configuration_counts() -> None:
    world = World(c1=controller(1, 4, g100=["old"]), c2=controller(2, 5, g100=["new"]), c3=controller(3))
    report = world.status("c3", "c1", "c2")
    assert report["config"]["num"] == 5
    assert [member["node"] for member in report["controller"]] == [1, 2, 3]
    assert report["unreachable"] == ["new"]


def test_controllers_that_were_not_named_are_found() -> None:
    """Contract §2: every controller."""
    world = World(c1=controller(1), c3=controller(3))
    report = world.status("c1")
    assert [member["node"] for member in report["controller"]] == [1, 3]
    assert report["unreachable"] == ["c2"]


def test_behind_proxies_nobody_is_counted_twice() -> None:
    """Contract §1: the peers may dial each other by other endpoints than we do."""
    world = World(p1=controller(1), p2=controller(2), c1=controller(1), c2=controller(2))
    report = world.status("p1", "p2", "p3")
    assert [member["endpoint"] for member in report["controller"]] == ["p1", "p2"]
    assert report["unreachable"] == ["p3"]


def test_a_group_that_left_is_seen_as_long_as_it_answers() -> None:
    """Contract §5.6: a group that left may be shut down as soon as status shows that it holds nothing more."""
    world = World(c1=controller(1, former={101: ["x", "y"]}), x={"node": 1, "keys": 7})
    report = world.status("c1", "c2", "c3")
    assert report["groups"] == {101: [{"node": 1, "keys": 7, "endpoint": "x"}]}
    del world.servers["x"]
    report = world.status("c1", "c2", "c3")
    assert report["groups"] == {}
    assert report["unreachable"] == ["c2", "c3"]


def test_a_node_is_both() -> None:
    """Contract §4: the status of a kv-node is under "controller" and "group"."""
    part = controller(1, g1=["n"]) | {"peers": {1: "n"}}
    world = World(n={"controller": part, "group": {"node": 1, "keys": 3}})
    report = world.status("n")
    assert report["controller"][0]["node"] == 1
    assert report["groups"] == {1: [{"node": 1, "keys": 3, "endpoint": "n"}]}
    assert report["unreachable"] == []


def test_servers_that_are_not_up_yet_are_asked_again() -> None:
    """Contract §2: a server that is not up yet is retried within --timeout."""
    world = World()
    world.clock.callLater(1.0, world.servers.update, {"c1": controller(1)})
    assert world.status("c1", "c2", "c3")["controller"] != []
    assert 1.0 <= world.clock.seconds() < 2.0


def test_when_nobody_answers_it_says_so() -> None:
    world = World()
    assert world.status("c1", timeout=1) == {"controller": [], "groups": {}, "config": {}, "unreachable": ["c1"]}
    assert world.clock.seconds() == pytest.approx(1.0, abs=2 * AGAIN_SECONDS)


class Admin:
    """Servers that say who they are; later they may say something else."""

    def __init__(self, *says: list[Iam | None]) -> None:
        self.says = list(says)

    def probe(self, endpoints: Sequence[str], *, timeout: float) -> Deferred[dict[str, Iam | None]]:
        said = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        return succeed(dict(zip(endpoints, said, strict=True)))


def iam(identity: str = "X", gid: int = 100) -> Iam:
    return Iam(gid, 1, identity)


def identity(admin: Admin, endpoints: str = "abc") -> Any:
    clock = Clock()
    ended: list[Any] = []
    ensureDeferred(group_identity(admin, clock, 100, list(endpoints), 2.0)).addBoth(ended.append)
    while not ended:
        clock.advance(AGAIN_SECONDS)
    assert clock.seconds() <= 2.0 + 2 * AGAIN_SECONDS
    return ended[0]


@pytest.mark.parametrize("said", [[iam(), iam(), iam()], [iam(), None, iam()], [iam(), iam(""), iam()]])
def test_a_majority_that_is_the_group_is_enough(said: list[Iam | None]) -> None:
    """Contract §2: join first asks the servers for their gid."""
    assert identity(Admin(said)) == "X"


@pytest.mark.parametrize(
    "said",
    [[iam(), None, None], [None, None, None], [iam(""), iam(""), iam("")], [iam("X"), iam("Y"), iam("Z")]],
    ids=["one", "none", "forming", "three groups"],
)
def test_without_a_majority_nothing_is_changed(said: list[Iam | None]) -> None:
    """Contract §2: without a majority that answers with it, exit 1; --unchecked skips that."""
    failure = identity(Admin(said))
    assert failure.check(Refusal)
    assert "--unchecked" in failure.getErrorMessage()


def test_servers_of_another_group_are_refused_at_once() -> None:
    failure = identity(Admin([iam(), iam(), iam(gid=101)]))
    assert failure.check(Refusal)
    assert "c is a server of group 101" in failure.getErrorMessage()


def test_a_group_that_forms_in_time_is_taken() -> None:
    assert identity(Admin([None, None, None], [iam(""), iam(""), iam("")], [iam(), iam(), iam()])) == "X"


def test_a_group_without_servers_is_refused() -> None:
    assert identity(Admin([]), "").check(Refusal)


def test_who_loses_interest_is_not_kept_waiting() -> None:
    """Ctrl-C while servers do not answer: asking ends, and is not begun again."""
    asked: list[Deferred[Any]] = []

    class Silent:
        def ask(self, endpoint: str, name: str, *arguments: Any, timeout: float) -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

    seen: list[Any] = []
    asking = ensureDeferred(ask_all(Silent(), ["a", "b"], "status"))
    asking.addErrback(seen.append)
    asking.cancel()
    assert seen[0].check(CancelledError)


def test_who_waits_for_shards_is_asked_twice() -> None:
    """A move is visible with bytes, rate and expected end."""
    copy = {"shard": 7, "from": 101, "bytes": 100, "total_bytes": 900}
    world = World(c1=controller(1, g100=["a"]), a={"node": 1, "arriving": [copy]})
    world.clock.callLater(
        LOOK_SECONDS / 2, world.servers.update, {"a": {"node": 1, "arriving": [copy | {"bytes": 300}]}}
    )
    (member,) = world.status("c1")["groups"][100]
    assert member["arriving"] == [copy | {"bytes": 300, "bytes_per_second": 200, "seconds_left": 3.0}]
    assert world.clock.seconds() == pytest.approx(LOOK_SECONDS)


def test_who_is_gone_at_the_second_look_is_shown_as_at_the_first() -> None:
    copy = {"shard": 7, "from": 101, "bytes": 100, "total_bytes": 900}
    world = World(c1=controller(1, g100=["a"]), a={"node": 1, "arriving": [copy]})
    world.clock.callLater(LOOK_SECONDS / 2, world.servers.pop, "a")
    (member,) = world.status("c1")["groups"][100]
    assert member["arriving"] == [copy]
