"""Both ends of a simulated connection: what a protocol may rely on, and what befalls its bytes."""

import pytest
from stream_site import LARGE, Site
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost, TCPTimedOutError

from twisted_kv.simulation.doors.network import Conditions
from twisted_kv.simulation.doors.sockets import GIVE_UP_SECONDS, WINDOW_BYTES


@pytest.fixture
def site():
    return Site()


def test_bytes_arrive_in_order_in_pieces_of_any_size(site):
    here, there = site.connected()
    for start in range(0, 60_000, 1_000):
        here.transport.write(LARGE[start : start + 1_000])
        site.world.run_for(0.0005)
    assert site.until(lambda: there.text == LARGE[:60_000])
    assert len({len(piece) for piece in there.heard}) > 3


def test_both_sides_speak_at_once(site):
    here, there = site.connected()
    here.transport.write(LARGE)
    there.transport.writeSequence([LARGE[:1_000], LARGE[1_000:]])
    assert site.until(lambda: there.text == LARGE and here.text == LARGE)


def test_a_producer_is_told_to_pause_until_the_other_side_reads(site):
    here, there = site.connected()
    here.transport.registerProducer(here, True)
    there.transport.pauseProducing()
    here.transport.write(LARGE[: WINDOW_BYTES + 200_000])
    site.world.run_for(5)
    assert here.paused == [True]
    assert there.text == b""
    there.transport.resumeProducing()
    assert site.until(lambda: there.text == LARGE[: WINDOW_BYTES + 200_000])
    assert here.paused == [True, False]


def test_no_more_than_a_window_is_under_way_or_unread(site):
    here, there = site.connected()
    there.transport.pauseProducing()
    here.transport.write(LARGE)
    site.world.run_for(5)
    there.transport.loseConnection()
    assert site.until(lambda: here.reason)
    assert site.served[0].text == b""


def test_what_was_written_before_the_close_arrives_before_it(site):
    here, there = site.connected()
    here.transport.write(LARGE)
    here.transport.loseConnection()
    assert site.until(lambda: there.reason)
    assert (there.text, there.reason, here.reason) == (LARGE, ConnectionDone, ConnectionDone)


def test_an_abort_tells_both_sides_and_the_producer(site):
    here, there = site.connected()
    here.transport.registerProducer(here, True)
    here.transport.abortConnection()
    assert here.reason is None, "not in the same turn"
    assert site.until(lambda: there.reason)
    assert (here.reason, there.reason, here.stopped) == (ConnectionAborted, ConnectionLost, True)
    here.transport.write(b"x")


def test_bytes_of_a_cut_link_arrive_when_it_heals_in_time(site):
    here, there = site.connected()
    site.hub.cut("c", "s")
    here.transport.write(b"late")
    site.world.run_for(GIVE_UP_SECONDS[0] - 0.5)
    assert there.text == b""
    there.transport.write(b"the other way")
    assert site.until(lambda: here.text == b"the other way", 1)
    site.hub.heal()
    assert site.until(lambda: there.text == b"late", 3)


def test_who_gets_nothing_through_gives_up_and_the_other_side_learns_when_it_speaks(site):
    here, there = site.connected()
    site.hub.cut("c", "s")
    here.transport.write(b"lost")
    assert site.until(lambda: here.reason, GIVE_UP_SECONDS[1] + 5)
    assert here.reason is TCPTimedOutError
    site.hub.heal()
    site.world.run_for(60)
    assert there.reason is None, "half open"
    there.transport.write(b"anybody?")
    assert site.until(lambda: there.reason, 1)
    assert (there.reason, there.text) == (ConnectionLost, b"")


def test_a_frozen_way_goes_on_when_it_is_thawed_and_the_other_one_does_not_stop(site):
    here, there = site.connected()
    site.streams.freeze("c", "s")
    here.transport.write(b"old")
    there.transport.write(b"x")
    site.world.run_for(30)
    assert (there.text, here.text, here.reason) == (b"", b"x", None)
    assert site.streams.thaw(lambda name: name == "s") == 0
    assert site.streams.thaw() == 1
    assert site.until(lambda: there.text == b"old", 1)


def test_a_frozen_way_of_who_is_gone_can_be_thawed(site):
    here, there = site.connected()
    site.streams.freeze("s", "c")
    there.transport.write(b"last words")
    site.world.run_for(1)
    site.die()
    site.world.run_for(1)
    site.streams.thaw()
    assert site.until(lambda: here.reason, 1)
    assert here.text == b"last words"


def outcomes(conditions):
    """What ends connections on which much is said; what arrives is in order."""
    reasons = []
    for seed in range(10):
        site = Site(conditions, seed)
        here, there = site.connected()
        for number in range(100):
            here.transport.write(b"%04d" % number)
            site.world.run_for(0.02)
        assert there.text == b"".join(b"%04d" % number for number in range(len(there.text) // 4))
        reasons.append(here.reason)
    return reasons


def test_loss_and_duplicates_break_some_connections_and_a_good_link_breaks_none():
    assert set(outcomes(Conditions())) == {None}
    assert set(outcomes(Conditions(request_loss=0.2, duplicate=0.2))) == {None, ConnectionLost}


def test_limbo_freezes_some_ways_and_breaks_nothing():
    assert set(outcomes(Conditions(limbo=0.5))) == {None}
    site = Site(Conditions(limbo=1.0))
    here, there = site.connected()
    for _ in range(200):
        here.transport.write(b"x")
        site.world.run_for(0.02)
    assert len(there.text) < 200
    while len(there.text) < 200:
        assert site.streams.thaw()
        site.world.run_for(1)


def test_a_slow_link_is_slow(site):
    here, there = site.connected()
    site.hub.shape("c", "s", Conditions(request_seconds=(0.5, 0.6)))
    here.transport.write(b"x")
    assert not site.until(lambda: there.text, 0.4)
    assert site.until(lambda: there.text, 0.3)
