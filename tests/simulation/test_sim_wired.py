"""The production transport in the simulator: a cluster on it, what can be done to it, and what it must not leave."""

import msgspec
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from twisted_kv.constants import WIRE_PART_BYTES
from twisted_kv.errors import Overloaded
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.simulation.doors.network import Conditions
from twisted_kv.simulation.doors.wired import WiredHub
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.knobs import Knobs
from twisted_kv.simulation.faults.nemesis import PLANS
from twisted_kv.simulation.faults.plans import Hints, Plan
from twisted_kv.simulation.lives.cluster import CONTROLLERS, Cluster
from twisted_kv.simulation.lives.life import draw_shape, run_seed
from twisted_kv.transport import chunks, links, roots

HERE = "tcp:s:7001"


class Site:
    """A server at HERE that keeps what it is sent, and a client."""

    def __init__(self, seed=1):
        self.world = World(seed)
        self.hub = WiredHub(self.world)
        self.client = self.world.host("c")
        self.network = self.hub.at(self.client)
        self.received = []
        self.boot()

    def boot(self):
        self.server = self.world.host("s")
        doors = {"echo": self.echo, "hang": lambda _: Deferred(), "full": lambda _: fail(Overloaded("full"))}
        self.hub.listen(HERE, self.server, doors)

    def echo(self, body):
        self.received.append(body)
        return succeed(body + b"!")

    def ask(self, body=b"x", verb="echo", timeout=10.0):
        told = []
        self.network.call(HERE, verb, body, timeout).addErrback(lambda failure: failure.value).addBoth(told.append)
        return told

    def asked(self, *arguments, **named):
        told = self.ask(*arguments, **named)
        assert self.until(lambda: told)
        return told[0]

    def until(self, predicate, seconds=60.0):
        return self.world.run_until(lambda: bool(predicate()), seconds)

    def close(self, host):
        closed = []
        self.hub.closed(host).addCallback(closed.append)
        assert self.until(lambda: closed)
        return self.hub.left


@pytest.fixture
def site():
    return Site()


def test_bodies_of_any_size_cross_whole(site):
    assert site.asked(b"small") == b"small!"
    large = b"x" * (2 * WIRE_PART_BYTES + 1)
    assert site.asked(large) == large + b"!"
    assert site.hub.tally.attempts["echo"] == 2


def test_a_door_that_fails_in_strange_words_has_done_what_was_asked_and_is_of_unknown_outcome(site):
    """Hazard 40."""
    site.hub.conditions = Conditions(strange=1.0)
    assert type(site.asked()) is LostAnswer
    assert site.received == [b"x"]
    assert site.world.reached == {"strange error": 1}
    assert not site.hub.misread


def test_what_a_caller_may_conclude_is_what_the_transport_says(site):
    assert type(site.asked(verb="full")) is NotSent
    assert type(site.asked(verb="hang", timeout=0.5)) is LostAnswer
    hanging = site.ask(verb="hang")
    site.world.run_for(0.1)
    site.hub.died(site.server)
    site.server.clock.stop()
    assert site.until(lambda: hanging, 1)
    assert type(hanging[0]) is LostAnswer
    assert type(site.asked(timeout=1.0)) is NotSent
    assert not site.hub.listens(HERE)
    site.boot()
    assert site.asked() == b"x!"


def test_a_withheld_message_holds_up_what_follows_until_limbo_is_released(site):
    site.asked()
    site.hub.withheld = lambda sender, body: body == b"old"
    for body in (b"early", b"old", b"late"):
        site.network.send(HERE, "echo", body)
        site.world.run_for(0.1)
    assert site.received == [b"x", b"early"]
    site.hub.release_limbo(elected=True)
    assert site.until(lambda: site.received == [b"x", b"early", b"old", b"late"], 1)
    assert site.world.reached == {"message out of limbo": 1}


def test_a_clean_end_leaves_nothing(site):
    site.asked(b"x" * (WIRE_PART_BYTES + 1))
    site.hub.unlisten(HERE)
    assert not site.hub.listens(HERE)
    assert site.close(site.client) == site.close(site.server) == []


def test_memory_that_is_not_given_back_is_told(site, monkeypatch):
    monkeypatch.setattr(chunks.Uploads, "release", lambda self, body: None)
    site.asked(b"x" * (WIRE_PART_BYTES + 1))
    (line,) = site.close(site.server)
    assert line == f"s counts {WIRE_PART_BYTES + 1} bytes of transfers that have ended"


def test_a_connection_that_is_not_closed_is_told(site, monkeypatch):
    site.asked()
    monkeypatch.setattr(links.Link, "close", lambda self: succeed(None))
    assert "c has a connection to s" in site.close(site.client)


def test_a_delayed_call_that_is_left_is_told(site, monkeypatch):
    site.asked()
    monkeypatch.setattr(links.Link, "_stop_timer", lambda self: None)
    left = site.close(site.client)
    assert left
    assert all(line.startswith("the transport of c waits until") for line in left)


def test_a_cluster_serves_and_stops(tmp_path):
    """Contract §3 over the real transport; values beyond what one message carries."""
    world = World(3)
    cluster = Cluster(world, str(tmp_path), groups={100: 3}, controllers=1, wire=True)

    def told(deferred):
        outcome = []
        deferred.addBoth(outcome.append)
        assert world.run_until(lambda: outcome, 60)
        return outcome[0]

    told(cluster.controller_clerk("admin").join({100: cluster.endpoints(100)}, timeout=30))
    clerk, value = cluster.clerk("clerk"), "v" * 600_000
    assert told(clerk.put("k", value)) is None
    cluster.kill(cluster.wait_for_leader(100))
    assert told(clerk.get("k")) == value
    cluster.restart(cluster.dead[0])
    cluster.move_house(100)
    assert cluster.settle()
    assert told(cluster.clerk("another").get("k")) == value
    cluster.terminate(cluster.groups[CONTROLLERS][0])
    assert cluster.settle()
    assert cluster.close()
    assert cluster.alive == []
    assert cluster.hub.left == cluster.watch.wrong == []


def test_tiny_parts_are_in_force_for_one_life():
    with Knobs(part_bytes=100).in_force():
        assert links.WIRE_PART_BYTES == roots.WIRE_PART_BYTES == chunks.WIRE_PART_BYTES == 100
        assert chunks.part_count(101) == 2
        assert chunks.PARTS_MAX * 100 >= chunks.WIRE_BODY_BYTES_MAX
    assert links.WIRE_PART_BYTES == chunks.WIRE_PART_BYTES == WIRE_PART_BYTES


def test_a_life_on_the_wire_has_large_values_or_tiny_parts():
    shapes = [draw_shape(World(seed).random_for("shape"), PLANS["wire"]) for seed in range(30)]
    assert all(shape.wire and (shape.haulers or shape.knobs.part_bytes < WIRE_PART_BYTES) for shape in shapes)
    assert {shape.haulers for shape in shapes} == {0, 1}
    assert not any(draw_shape(World(seed).random_for("shape"), PLANS["lossy"]).wire for seed in range(30))
    some = [draw_shape(World(seed).random_for("shape"), PLANS["everything"]).wire for seed in range(100)]
    assert 3 < sum(some) < 30


def test_no_call_fails_on_the_wire_if_nothing_is_wrong():
    report = run_seed(1, Plan("calm", shape=Hints(groups=(1,), members=(3,), wire=(True,))))
    assert (report.violations, report.void) == ((), "")


def test_two_runs_of_one_seed_are_one_life():
    plan = msgspec.structs.replace(PLANS["wire"], shape=Hints(groups=(1,), members=(3,), wire=(True,)))
    assert run_seed(2, plan).digest == run_seed(2, plan).digest
