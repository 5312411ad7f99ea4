"""An administrator whose words are judged: which changes it had sent, and what it was told of them."""

import pytest
from twisted.internet.defer import ensureDeferred

from twisted_kv.errors import BadRequest, OutcomeUnknown, Unavailable
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges.checkers import CHANGED_ONCE, NEWEST
from twisted_kv.simulation.lives.administration import Administration
from twisted_kv.simulation.lives.cluster import Cluster
from twisted_kv.transport.wire import CTL_CHANGE


@pytest.fixture
def cluster(tmp_path):
    cluster = Cluster(World(1), str(tmp_path), 3, {100: 3})
    cluster.wait_for_leader(0)
    yield cluster
    for name in cluster.alive:
        cluster.kill(name)


def told(cluster, deferred):
    """What came back, an error too."""
    results = []
    deferred.addBoth(results.append)
    assert cluster.world.run_until(lambda: results, 20)
    return getattr(results[0], "value", results[0])


def test_every_change_and_query_is_told_to_the_chronicle(cluster):
    admin = Administration(cluster, "admin")
    made = [
        told(cluster, admin.join({100: cluster.endpoints(100)}, timeout=10.0)),
        told(cluster, admin.move(0, 100, timeout=10.0)),
        told(cluster, admin.leave([100], timeout=10.0)),
    ]
    assert [configuration.num for configuration in made] == [1, 1, 2]
    assert len(admin._asked.sent) == 1
    assert told(cluster, admin.query(timeout=10.0)).num == 2
    assert told(cluster, admin.query(1, timeout=10.0)) == made[0]
    assert isinstance(told(cluster, admin.move(99, 100, timeout=10.0)), BadRequest)
    assert cluster.watch.chronicle.heard == 2
    assert cluster.watch.wrong == []
    cluster.watch.chronicle.heard = 3
    told(cluster, admin.query(timeout=10.0))
    assert [violation.checker for violation in cluster.watch.wrong] == [NEWEST]


@pytest.mark.parametrize(("error", "blamed"), [(Unavailable("x"), True), (OutcomeUnknown("x"), False)])
def test_a_change_that_was_made_and_is_told_as_refused(cluster, error, blamed):
    """Hazard 40: what is said when the answer was lost."""
    admin = Administration(cluster, "admin")
    join = admin._clerk.join

    def lied(*arguments, **named):
        def lie(_):
            raise error

        return join(*arguments, **named).addCallback(lie)

    admin._clerk.join = lied
    assert told(cluster, admin.join({100: cluster.endpoints(100)}, timeout=10.0)) is error
    assert [violation.checker for violation in cluster.watch.wrong] == [CHANGED_ONCE] * blamed


def test_a_change_that_is_made_only_after_it_was_told_as_refused(cluster):
    """A letter that was kept back, and its sender sure that it had not left."""
    admin = Administration(cluster, "admin")
    letters, ask = [], admin._asked._seeker.ask

    async def kept_back(verb, body, deadline, changes):
        if verb == CTL_CHANGE:
            letters.append(body)
            raise Unavailable("x")
        return await ask(verb, body, deadline, changes)

    admin._asked._seeker.ask = kept_back
    assert isinstance(told(cluster, admin.join({100: cluster.endpoints(100)}, timeout=10.0)), Unavailable)
    assert cluster.watch.wrong == []
    told(cluster, ensureDeferred(ask(CTL_CHANGE, letters[0], cluster.world.clock.seconds() + 10.0, True)))
    assert {violation.checker for violation in cluster.watch.wrong} == {CHANGED_ONCE}
