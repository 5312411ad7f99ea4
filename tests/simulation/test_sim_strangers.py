"""Strangers at the ports: what they say must not be carried out, and the server lives on."""

from random import Random

import pytest
from planted_service import Visited

from twisted_kv.simulation.lives.strangers import PARTS, disordered
from twisted_kv.transport.banana import Decoder


def test_strangers_are_turned_away_and_nothing_is_left():
    site = Visited()
    assert not site.found
    assert site.stranger.refusals > 5
    told = []
    site.hub.at(site.world.host("c")).call("tcp:s:7001", "who", b"x", 5.0).addBoth(told.append)
    assert site.world.run_until(lambda: bool(told), 10.0)
    assert told == [b"x"]
    assert not [end for end in site.hub.streams._ends if end.host.name == "stranger"]


def test_a_budget_that_holds_for_each_element_is_told_of(monkeypatch):
    """Scenario 50."""

    class Lenient(Decoder):
        def _received(self, item):
            self.size = 0
            super()._received(item)

    monkeypatch.setattr("twisted_kv.transport.broker.Decoder", Lenient)
    assert any("together too many" in violation.text for violation in Visited().found)


@pytest.mark.parametrize("count", PARTS)
def test_no_order_is_the_right_one(count):
    for seed in range(200):
        order = list(disordered(Random(seed), count))
        assert order[0] == 0
        assert order != list(range(count))
        assert set(order) <= set(range(count))


def test_who_stops_makes_no_more_visits():
    site = Visited()
    before = site.stranger.refusals
    site.world.run_for(10.0)
    assert site.stranger.refusals == before
