"""Closed-loop clients write down exactly what they were told."""

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from twisted_kv.errors import OutcomeUnknown, Unavailable
from twisted_kv.machines.configuration import Configuration, Member
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges.book import home_of
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.judges.linearizability import findings, fnv1a
from twisted_kv.simulation.lives import workload
from twisted_kv.simulation.lives.workload import FULL_MIX, Administrator, Clerks, Owner, Rambler, SharedKeys


class Register:
    """A correct store, for clerks that have no cluster; every fifth call ends in an error if there is one to give."""

    def __init__(self, clock, errors=(), executes=False):
        self._clock = clock
        self._errors = errors
        self._executes = executes
        self._calls = 0
        self.values = {}

    def put(self, key, value, *, timeout):
        return self._serve(lambda: self.values.__setitem__(key, value))

    def append(self, key, value, *, timeout):
        return self._serve(lambda: self.values.__setitem__(key, self.values.get(key, "") + value))

    def get(self, key, default="", *, timeout):
        return self._serve(lambda: self.values.get(key, default))

    def delete(self, key, *, timeout):
        return self._serve(lambda: self.values.pop(key, None) is not None)

    def put_hash(self, key, value, *, timeout):
        def serve():
            previous = self.values.get(key, "")
            self.values[key] = fnv1a(previous + value)
            return previous

        return self._serve(serve)

    def _serve(self, work):
        self._calls += 1
        if self._errors and self._calls % 5 == 0:
            if self._executes:
                work()
            return fail(self._errors[self._calls // 5 % len(self._errors)])
        return deferLater(self._clock, 0.01, work)


def live(world, clients, seconds=20.0):
    for client in clients:
        client.start()
    world.run_for(seconds)
    for client in clients:
        client.stop()
    assert world.run_until(lambda: all(client.idle for client in clients), 20)


def make(kind, world, clerk, history, count=3, **named):
    return [
        kind(f"c{i}", clerk, history, world.clock, world.random_for(f"c{i}"), (0.0, 0.05), **named)
        for i in range(count)
    ]


@pytest.mark.parametrize(
    ("errors", "executes"),
    [((), False), ([Unavailable("x")], False), ([OutcomeUnknown("x")], False), ([OutcomeUnknown("x")], True)],
)
def test_a_correct_store_is_found_correct(errors, executes):
    """Definite failures leave no trace, unknown ones stay open (scenario §3.2-20)."""
    world, history = World(1), History()
    clerk = Register(world.clock, errors, executes)
    owners = make(Owner, world, clerk, history)
    ramblers = make(Rambler, world, clerk, history, keys=SharedKeys(3), mix=FULL_MIX)
    live(world, owners + ramblers)
    assert [client.wrong for client in owners + ramblers] == [[]] * 6
    assert findings(history) == []
    assert len(history) > 500
    assert history.open == []
    assert {call.verb for calls in history.by_key().values() for call in calls} == set(FULL_MIX)


def test_calls_may_be_cancelled_or_closed_with_their_clerk():
    """Hazard 40: what was sent may still take effect, once; the store is not blamed for it."""
    world, history = World(1), History()
    register = Register(world.clock)
    clerks = Clerks(lambda: register)
    ramblers = make(Rambler, world, clerks, history, keys=SharedKeys(3), mix=FULL_MIX, at_once=3, cancels=0.1)
    owners = make(Owner, world, clerks, history, cancels=0.1)
    live(world, owners + ramblers)
    assert [client.wrong for client in owners + ramblers] == [[]] * 6
    assert findings(history) == []
    assert history.unknown_count > 10
    assert history.open == []


def test_calls_at_once_are_on_different_keys():
    """Of two on one key nobody could say which was first."""
    world = World(1)
    (rambler,) = make(Rambler, world, Register(world.clock), History(), 1, keys=SharedKeys(3), at_once=8)
    chosen = [rambler.choices() for _ in range(50)]
    assert all(len({key for _, key, _ in choices}) == len(choices) <= 3 for choices in chosen)
    assert max(map(len, chosen)) == 3


def test_shared_keys_have_tags_that_count_and_such_that_do_not():
    """Scenario 48: of an empty tag, and of one that does not end, the whole key counts."""
    keys, random = SharedKeys(3), World(1).random_for("keys")
    assert keys.names == ["{key0}/0", "{}key1/0", "{key2/0"]
    picked = {keys.pick(random) for _ in range(2000)}
    assert len(picked) > 3
    assert len({home_of(key, 1000) for key in picked if key.startswith("{key0}")}) == 1
    assert len({home_of(key, 1000) for key in picked}) == len([key for key in picked if "key0" not in key]) + 1


class Mortal:
    """A Clerk whose calls never come back, unless it is closed and knows what that means."""

    def __init__(self, forgets):
        self._forgets = forgets
        self.calls = []

    def get(self, key, default, *, timeout):
        self.calls.append(Deferred())
        return self.calls[-1]

    def close(self):
        for call in self.calls[self._forgets :]:
            call.errback(Unavailable("closed"))


@pytest.mark.parametrize("forgets", [0, 1])
def test_every_call_of_a_clerk_that_is_closed_must_end(forgets):
    made = []

    def another():
        made.append(Mortal(forgets))
        return made[-1]

    clerks = Clerks(another)
    first = [clerks.get(key, None, timeout=1.0) for key in ("a", "b")]
    for call in first:
        call.addErrback(lambda _: None)
    clerks.replace()
    assert bool(clerks.wrong) == bool(forgets)
    clerks.get("c", None, timeout=1.0)
    assert [len(clerk.calls) for clerk in made] == [2, 1]


def test_an_owner_notices_a_lost_append():
    world, history = World(1), History()
    clerk = Register(world.clock)
    lost = clerk.append
    clerk.append = lambda key, value, timeout: lost(key, "" if value.endswith(".9>") else value, timeout=timeout)
    (owner,) = make(Owner, world, clerk, history, 1)
    live(world, [owner])
    assert "had written" in owner.wrong[0]
    assert findings(history)


def test_a_ramblers_lie_is_found_by_the_history():
    """A store that appends twice what it said it did not append."""
    world, history = World(1), History()
    clerk = Register(world.clock, [Unavailable("x")], executes=True)
    live(world, make(Rambler, world, clerk, history, keys=SharedKeys(2)))
    assert findings(history)


def test_keys_are_given_up_before_the_checker_must(monkeypatch):
    """Hazards §3 rung 7: at most 300 to 500 calls per key."""
    monkeypatch.setattr(workload, "CALLS_PER_KEY_MAX", 30)
    world, history = World(1), History()
    clerk = Register(world.clock)
    live(world, make(Owner, world, clerk, history) + make(Rambler, world, clerk, history, keys=SharedKeys(1)))
    assert max(len(calls) for calls in history.by_key().values()) <= 30


def test_an_unexpected_error_of_a_clerk_is_reported():
    world, history = World(1), History()
    clerk = Register(world.clock, [ZeroDivisionError("a bug")])
    clients = make(Owner, world, clerk, history, 1)
    clients[0].start()
    world.run_for(20)
    assert "a bug" in clients[0].wrong[0]


class Controller:
    """What an administrator sees of a controller; every fourth change is lost with unknown outcome."""

    def __init__(self, clock):
        self._clock = clock
        self.listed = set()
        self.seen = []

    def query(self, num=-1, *, timeout):
        members = tuple(Member(gid, 1, ("sim:x",)) for gid in sorted(self.listed))
        return deferLater(self._clock, 0.01, lambda: Configuration(members=members))

    def join(self, groups, *, timeout):
        assert not set(groups) & self.listed
        return self._told(lambda: self.listed.update(groups), "join")

    def leave(self, gids, *, timeout):
        assert set(gids) <= self.listed
        return self._told(lambda: self.listed.difference_update(gids), "leave")

    def move(self, shard, gid, *, timeout):
        assert gid in self.listed
        assert 0 <= shard < 10
        return self._told(lambda: None, "move")

    def _told(self, work, what):
        work()
        self.seen.append((what, len(self.listed)))
        return fail(OutcomeUnknown("x")) if len(self.seen) % 4 == 0 else deferLater(self._clock, 0.01, lambda: None)


def test_an_administrator_joins_leaves_and_moves_and_goes_on_after_errors():
    """Scenario §3.7: groups join and leave together, by single ones, and all leave at times."""
    world = World(2)
    controller = Controller(world.clock)
    asked, query = [], controller.query
    controller.query = lambda num, timeout: (asked.append(num), query(num, timeout=timeout))[1]
    admin = Administrator(
        controller, {gid: ["sim:x"] for gid in (1, 2, 3)}, 10, world.clock, world.random_for("admin"), (0.1, 0.2)
    )
    live(world, [admin], 60.0)
    assert admin.wrong == []
    assert admin.changes > 100
    assert {what for what, _ in controller.seen} == {"join", "leave", "move"}
    assert {count for _, count in controller.seen} == {0, 1, 2, 3}
    assert asked.count(0) > asked.count(-1) / 8


def test_an_administrator_who_fidgets_moves_favourites_most_of_the_time():
    """Hazard 43: the same shard to and fro, sooner than what it leaves behind is gone."""
    world = World(2)
    controller = Controller(world.clock)
    moved, move = [], controller.move
    controller.move = lambda shard, gid, timeout: (moved.append(shard), move(shard, gid, timeout=timeout))[1]
    groups = {gid: ["sim:x"] for gid in (1, 2, 3)}
    random = world.random_for("admin")
    admin = Administrator(controller, groups, 10, world.clock, random, (0.1, 0.2), favourites=(7,))
    live(world, [admin], 20.0)
    assert admin.wrong == []
    assert moved.count(7) > len(controller.seen) / 3
    assert admin.changes > 200
