"""Who may connect to whom in the simulated world, and what a connection is to processes that stop, die and boot."""

import pytest
from stream_site import LARGE, Site, Speaker
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Factory


@pytest.fixture
def site():
    return Site()


def test_where_nobody_listens_a_connection_is_refused(site):
    site.port.stopListening()
    told = site.dial()
    assert site.until(lambda: told)
    assert told[0].check(ConnectionRefusedError)


def test_a_port_is_taken_once_and_free_afterwards(site):
    with pytest.raises(CannotListenError):
        site.streams.reactor(site.server).listenTCP(7, Factory())
    site.port.stopListening()
    site.listen()


def test_a_factory_that_takes_no_more_closes_the_connection(site):
    site.accept = lambda: None
    site.port.factory.buildProtocol = lambda address: None
    told = site.dial()
    assert site.until(lambda: told)
    assert site.until(lambda: told[0].reason) and told[0].reason is ConnectionDone


def test_an_attempt_that_is_cancelled_ends_at_once_and_leaves_nothing(site):
    site.hub.cut("s", "c")
    told = []
    attempt = clientFromString(site.reactor, "tcp:s:7").connect(Factory.forProtocol(Speaker))
    attempt.addBoth(told.append)
    site.world.run_for(1)
    attempt.cancel()
    assert told
    site.hub.heal()
    assert site.until(lambda: site.served and site.served[0].reason)
    assert site.streams.ends(site.client) == site.streams.ends(site.server) == []


def test_an_attempt_over_a_cut_link_succeeds_when_it_heals_and_times_out_if_it_does_not(site):
    site.hub.cut("c", "s")
    told = site.dial()
    site.world.run_for(2)
    assert not told
    site.hub.heal()
    assert site.until(lambda: told, 3)
    site.hub.cut("c", "s")
    late = site.dial()
    assert site.until(lambda: late, 31)
    assert late[0].getErrorMessage().startswith("User timeout")


def test_a_process_that_ends_has_its_sockets_closed(site):
    here, there = site.connected()
    there.transport.write(b"said in the last turn")
    site.die()
    assert site.until(lambda: here.reason)
    assert (here.reason, here.text) == (ConnectionDone, b""), "what it had not yet handed over is gone"
    assert there.reason is None, "nobody is there to be told"
    told = site.dial()
    assert site.until(lambda: told)
    assert told[0].check(ConnectionRefusedError)


def test_a_host_without_power_is_silent_until_it_boots(site):
    here, _ = site.connected()
    site.die(silent=True)
    here.transport.write(b"anybody?")
    told = site.dial()
    site.world.run_for(2)
    assert here.reason is None
    assert not told
    site.boot()
    assert site.until(lambda: here.reason and told, 3)
    assert here.reason is ConnectionLost
    assert not hasattr(told[0], "check"), "the new process takes the old attempt"


def test_a_stopped_process_accepts_and_neither_reads_nor_answers(site):
    site.server.clock.hold()
    told = site.dial()
    assert site.until(lambda: told, 1)
    told[0].transport.write(b"x")
    site.world.run_for(5)
    assert not site.served
    site.server.clock.release()
    assert site.until(lambda: site.served and site.served[0].text == b"x", 1)


def test_a_reactor_knows_what_was_asked_of_it_and_is_not_over():
    site = Site()
    done = []
    site.client.clock.callLater(1, done.append, "of the host, not of its reactor")
    for number in range(300):
        site.reactor.callLater(number % 3, done.append, number)
    left = site.reactor.callLater(9, done.append, "late")
    site.reactor.callLater(9, done.append, "never").cancel()
    site.world.run_for(5)
    assert len(done) == 301
    assert site.reactor.getDelayedCalls() == [left]


def test_the_same_seed_is_the_same_life():
    def digest(seed):
        site = Site(seed=seed)
        here, there = site.connected()
        here.transport.write(LARGE)
        assert site.until(lambda: there.text == LARGE)
        return site.world.trace.digest()

    assert digest(1) == digest(1) != digest(2)
