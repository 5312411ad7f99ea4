"""One seed gives one life: time, chance and trace."""

import pytest

from twisted_kv.simulation.doors.rare import RARE
from twisted_kv.simulation.doors.world import World, between, one_of, shuffled


def test_dice_depend_on_seed_and_name_alone():
    """House, four doors: split per actor, so that one actor's draws do not shift another's."""
    first, second = World(7), World(7)
    first.random_for("someone else").random()
    assert first.random_for("a").getrandbits(64) == second.random_for("a").getrandbits(64)
    assert first.random_for("a").getrandbits(64) != first.random_for("b").getrandbits(64)
    assert World(8).random_for("a").getrandbits(64) != second.random_for("a").getrandbits(64)


def test_dice_are_the_same_on_every_python():
    """Drawn on 3.11; random() and getrandbits() are promised to stay."""
    random = World(1).random_for("a")
    assert (random.getrandbits(32), round(random.random(), 9)) == (64362761, 0.587957176)


def test_draws_stay_in_their_bounds():
    random = World(3).random_for("a")
    assert all(2 <= between(random, 2, 3) < 3 for _ in range(200))
    assert {one_of(random, "abc") for _ in range(200)} == set("abc")
    orders = {tuple(shuffled(random, "abc")) for _ in range(300)}
    assert len(orders) == 6


def test_run_until_stops_at_the_moment_and_at_the_deadline():
    world, ran = World(0), []
    for second in range(1, 6):
        world.clock.callLater(second, ran.append, second)
    assert world.run_until(lambda: len(ran) == 3, 10)
    assert world.clock.seconds() == 3
    assert not world.run_until(lambda: False, 1.5)
    assert (ran, world.clock.seconds()) == ([1, 2, 3, 4], 4.5)
    world.run_for(100)
    assert world.clock.seconds() == 104.5


def test_predicate_is_asked_between_instants_only():
    """What happens at one time is one turn; half of it is nothing to be judged."""
    world, ran, asked = World(0), [], []
    for name in "ab":
        world.clock.callLater(1, ran.append, name)
    world.run_until(lambda: asked.append(len(ran)) or len(ran) >= 1, 5)
    assert asked == [0, 2]


def test_digest_counts_every_event_and_its_time():
    def life(seconds, fact):
        world = World(0)
        world.run_for(seconds)
        world.trace.note("a", "spoke", word=fact)
        return world.trace.digest()

    assert life(1, "x") == life(1, "x")
    assert len({life(1, "x"), life(2, "x"), life(1, "y")}) == 3


def test_sink_is_given_the_events_as_they_are_noted():
    lines = []
    world = World(0, lambda event: lines.append(str(event)))
    world.trace.note("a", "spoke", word="x")
    assert lines == ["    0.000000 a                spoke word=x"]


def test_rare_events_are_counted_by_names_that_are_listed():
    world = World(0)
    name = next(iter(RARE))
    world.reach(name)
    world.reach(name)
    assert world.reached == {name: 2}
    with pytest.raises(AssertionError):
        world.reach("something else")
