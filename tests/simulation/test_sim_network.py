"""The simulated network: the labs' self-tests (scenario §2.13), and what a caller may conclude."""

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.simulation.doors.network import LONG_REORDERING, RELIABLE, UNRELIABLE, Conditions, Hub
from twisted_kv.simulation.doors.world import World


class Site:
    """A server at "sim:s" that keeps what it is sent, and a client."""

    def __init__(self, conditions=RELIABLE, seed=1):
        self.world = World(seed)
        self.hub = Hub(self.world, conditions)
        self.client = self.world.host("c")
        self.network = self.hub.at(self.client)
        self.received = []
        self.boot()

    def boot(self):
        self.server = self.world.host("s")
        self.hub.listen("sim:s", self.server, {"echo": self.echo, "hang": lambda _: Deferred()})

    def echo(self, body):
        self.received.append((self.world.clock.seconds(), body))
        return succeed(body + b"!")

    def ask(self, body=b"x", verb="echo", timeout=10.0):
        told = []
        call = self.network.call("sim:s", verb, body, timeout)
        call.addBoth(lambda result: told.append((self.world.clock.seconds(), result)))
        return told

    def asked(self, *arguments, seconds=10.0, **named):
        told = self.ask(*arguments, **named)
        assert self.world.run_until(lambda: told, seconds)
        return told[0][1]


def test_the_same_bytes_arrive_and_come_back_after_a_while():
    """Basic of §2.13; reliable links take 1-5 ms each way."""
    site = Site()
    assert site.asked(b"hello") == b"hello!"
    assert 0.002 <= site.world.clock.seconds() <= 0.010


def test_only_bytes_cross():
    """House, four doors: the simulated roots see what the real ones see."""
    with pytest.raises(AssertionError):
        Site().network.send("sim:s", "echo", "text")


def test_each_call_and_byte_is_counted():
    """Count and Bytes of §2.13, exactly."""
    site = Site()
    for _ in range(17):
        site.asked(b"a" * 284)
    assert site.hub.tally.served["sim:s"] == 17
    assert site.hub.tally.attempts["echo"] == 17
    assert site.hub.tally.bytes == 17 * (284 + 285)


def test_many_clients_at_once_are_all_counted():
    """ConcurrentMany of §2.13."""
    site = Site()
    told = [site.ask(b"%d" % i) for i in range(200)]
    site.world.run_for(1)
    assert [one[0][1] for one in told] == [b"%d!" % i for i in range(200)]
    assert site.hub.tally.served["sim:s"] == 200


def test_unreliable_serves_some_and_loses_some():
    """Unreliable of §2.13 and §2.0.1: of 300 about 243 are answered and 270 served."""
    site = Site(UNRELIABLE)
    told = [site.ask() for _ in range(300)]
    site.world.run_for(11)
    results = [one[0][1] for one in told]
    assert 215 < sum(result == b"x!" for result in results) < 270
    assert 250 < len(site.received) < 290
    assert all(result == b"x!" or result.check(LostAnswer) for result in results)


def test_a_lost_request_looks_like_a_lost_answer():
    """Hazard 40: real life cannot tell; some callers see the connection drop, others nothing until the timeout."""
    site = Site(Conditions(request_loss=1.0))
    told = [site.ask(timeout=3.0) for _ in range(50)]
    site.world.run_for(4)
    assert all(one[0][1].check(LostAnswer) for one in told)
    times = [one[0][0] for one in told]
    assert min(times) < 0.2
    assert max(times) == 3.0
    assert not site.received


def test_a_refused_connection_is_certain():
    site = Site()
    site.hub.unlisten("sim:s")
    assert site.asked().check(NotSent)
    assert site.world.clock.seconds() < 0.2


def test_a_cut_link_delivers_nothing_either_way():
    """Disconnect of §2.13."""
    for source, target in (("c", "s"), ("s", "c")):
        site = Site()
        site.hub.cut(source, target)
        told = [site.ask() for _ in range(30)]
        site.world.run_for(11)
        assert not any(one[0][1] == b"x!" for one in told)
        assert len(site.received) == (0 if source == "c" else 30)
        if source == "s":
            assert not site.received or not any(one[0][1].check(NotSent) for one in told)


def test_a_request_that_was_served_is_never_called_not_sent():
    """A cut on the way back may drop the connection, not deny that it stood."""
    site = Site()
    site.hub.cut("s", "c")
    told = [site.ask() for _ in range(60)]
    site.world.run_for(11)
    assert len(site.received) == 60
    assert all(one[0][1].check(LostAnswer) for one in told)


def test_calls_while_cut_delay_nobody_after_healing_and_never_arrive():
    """§2.13: less than 30 ms."""
    site = Site()
    site.hub.cut("c", "s")
    for _ in range(20):
        site.ask(b"while cut")
    site.hub.heal()
    began = site.world.clock.seconds()
    assert site.asked(b"after") == b"after!"
    assert site.world.clock.seconds() - began < 0.03
    site.world.run_for(60)
    assert [body for _, body in site.received] == [b"after"]


def test_a_partition_cuts_between_sides_and_spares_who_is_on_none():
    world = World(1)
    hub = Hub(world)
    hub.partition(["a", "b"], ["c"])
    assert hub.severed("a", "c")
    assert hub.severed("c", "b")
    assert not hub.severed("a", "b")
    assert not hub.severed("a", "elsewhere")
    hub.heal()
    assert not hub.severed("a", "c")


def test_who_is_stuck_in_a_handler_is_released_when_the_server_dies():
    """§2.13: within 100 ms."""
    site = Site()
    told = site.ask(verb="hang")
    site.world.run_for(1)
    assert not told
    site.hub.unlisten("sim:s")
    site.world.run_for(0.11)
    assert told[0][1].check(LostAnswer)


def test_an_answer_of_a_server_that_was_removed_is_suppressed():
    """§2.0.1: a killed server can never acknowledge, nor can its successor do so for it."""
    site = Site()
    answer = Deferred()
    site.hub.unlisten("sim:s")
    site.hub.listen("sim:s", site.server, {"echo": lambda _: answer})
    told = site.ask()
    site.world.run_for(1)
    site.hub.unlisten("sim:s")
    site.boot()
    answer.callback(b"too late")
    site.world.run_for(20)
    assert told[0][1].check(LostAnswer)


def test_a_crashed_host_receives_and_concludes_nothing():
    site = Site()
    told = site.ask()
    site.client.clock.stop()
    site.world.run_for(20)
    assert site.received
    assert not told


def test_a_held_host_receives_later():
    """Scenario §3.6-54: the kernel accepts for a stopped process."""
    site = Site()
    site.server.clock.hold()
    told = site.ask(timeout=60.0)
    site.world.run_for(30)
    assert not site.received
    site.server.clock.release()
    site.world.run_for(1)
    assert told[0][1] == b"x!"


def test_long_reordering_lets_answers_overtake_each_other():
    """§2.0.1: two thirds are held back 0.2-2.2 s."""
    site = Site(LONG_REORDERING)
    told = [site.ask(b"%d" % i) for i in range(30)]
    site.world.run_for(6)
    times = [one[0][0] for one in told]
    assert times != sorted(times)
    assert max(times) > 0.5


def test_a_duplicate_of_a_message_arrives_twice():
    site = Site(Conditions(duplicate=1.0))
    site.network.send("sim:s", "echo", b"x")
    site.world.run_for(1)
    assert [body for _, body in site.received] == [b"x", b"x"]


def test_who_was_told_something_was_not_carried_out_again():
    """A Clerk that hears "not the leader" says that nothing happened (hazard 40); no stream could prove it wrong."""
    site = Site(Conditions(duplicate=1.0, silence=0.0))
    told = {body: site.ask(body) for body in (b"%d" % number for number in range(40))}
    site.world.run_for(1)
    times = {body: [heard for _, heard in site.received].count(body) for body in told}
    answered = {body for body, [(_, answer)] in told.items() if answer == body + b"!"}
    assert {body for body, count in times.items() if count == 1} == answered
    assert 0 < len(answered) < len(told)


def test_nobody_is_sure_that_a_duplicated_request_did_not_arrive():
    """Its twin may come after the restart of a server that refused it."""
    site = Site(Conditions(duplicate=1.0, request_seconds=(0.1, 0.1)))
    site.hub.unlisten("sim:s")
    told = site.ask()
    site.world.run_for(0.15)
    site.boot()
    site.world.run_for(1)
    assert site.received
    assert told[0][1].check(LostAnswer)


def test_limbo_keeps_one_way_messages_until_released():
    """Hazards §0.5: what was sent in an old term arrives after a change of leader."""
    site = Site(Conditions(limbo=1.0))
    site.network.send("sim:s", "echo", b"old")
    assert site.asked(b"new") == b"new!"
    site.world.run_for(60)
    site.hub.release_limbo()
    site.world.run_for(1)
    assert [body for _, body in site.received] == [b"new", b"old"]


def test_one_link_can_be_slower_than_the_others():
    site = Site()
    site.hub.shape("c", "s", Conditions(request_seconds=(1.0, 1.0)))
    site.asked()
    assert site.world.clock.seconds() > 1.0


def test_a_cancelled_call_is_over():
    site = Site()
    call = site.network.call("sim:s", "hang", b"", 5.0)
    failures = []
    call.addErrback(failures.append)
    call.cancel()
    site.world.run_for(10)
    assert failures[0].check(CancelledError)
    assert site.client.clock.getDelayedCalls() == []


def test_an_answered_call_leaves_no_timer():
    site = Site()
    site.asked()
    assert site.client.clock.getDelayedCalls() == []


def test_a_door_that_breaks_is_a_lost_answer_and_is_reported():
    site = Site()
    site.hub.unlisten("sim:s")
    site.hub.listen("sim:s", site.server, {"echo": lambda _: fail(ZeroDivisionError())})
    assert site.asked(seconds=20).check(LostAnswer)
    assert site.hub.broken[0].check(ZeroDivisionError)
    assert any(("error", "ZeroDivisionError") in event.facts for event in site.world.trace.recent)


def test_a_closed_network_ends_its_calls_and_takes_no_more():
    site = Site()
    told = site.ask(verb="hang")
    site.world.run_for(1)
    site.network.close()
    late = site.ask()
    site.network.send("sim:s", "echo", b"late")
    site.world.run_for(1)
    assert told[0][1].check(LostAnswer)
    assert late[0][1].check(NotSent)
    assert not site.received


def test_one_seed_gives_one_trace():
    def life(seed):
        site = Site(UNRELIABLE, seed)
        for i in range(50):
            site.ask(b"%d" % i)
        site.world.run_for(20)
        return site.world.trace.digest()

    assert life(5) == life(5) != life(6)


def test_parallel_calls_of_one_client_are_told_apart():
    """§2.13: 20 at once over one end, where answers overtake each other."""
    site = Site(LONG_REORDERING)
    told = [site.ask(b"%d" % i) for i in range(20)]
    site.world.run_for(10)
    assert [one[0][1] for one in told] == [b"%d!" % i for i in range(20)]


def test_ten_thousand_calls_are_quick_and_exact():
    """The benchmark of §2.13, a tenth of it: one after the other, without a lost or a doubled one."""
    site = Site()
    for number in range(10_000):
        assert site.asked(b"%d" % number) == b"%d!" % number
    assert site.hub.tally.served["sim:s"] == len(site.received) == 10_000


def test_a_bridge_has_one_host_that_sees_both_sides():
    hub = Hub(World(1))
    hub.bridge(["a", "b"], ["c", "d"], "b")
    assert hub.severed("a", "c")
    assert hub.severed("d", "a")
    assert not any(hub.severed("b", other) or hub.severed(other, "b") for other in "acd")


def test_in_a_ring_everybody_sees_two():
    hub = Hub(World(1))
    hub.ring("abcde")
    seen = {a: {b for b in "abcde" if a != b and not hub.severed(a, b)} for a in "abcde"}
    assert seen == {"a": set("be"), "b": set("ac"), "c": set("bd"), "d": set("ce"), "e": set("da")}


def test_links_can_be_mended_one_by_one():
    hub = Hub(World(1))
    hub.partition("a", "bc")
    for number, (source, target) in enumerate(hub.cuts):
        assert hub.severed(source, target)
        hub.mend(source, target)
        assert len(hub.cuts) == 3 - number
    hub.mend("a", "b")


def test_limbo_holds_what_is_withheld_and_releases_whose_it_is_asked_for():
    """Hazard 14: a message can wait until the very node leads again, and arrive once more after that."""
    site = Site()
    other = site.hub.at(site.world.host("other"))
    site.hub.withheld = lambda source, body: body.startswith(b"old")
    site.network.send("sim:s", "echo", b"old mine")
    other.send("sim:s", "echo", b"old theirs")
    other.send("sim:s", "echo", b"new")
    site.world.run_for(1)
    site.hub.release_limbo(lambda source: source == "c", twice=True, elected=True)
    site.world.run_for(1)
    assert [body for _, body in site.received] == [b"new", b"old mine"]
    assert site.world.reached == {"message out of limbo": 1}
    site.hub.release_limbo()
    site.world.run_for(1)
    assert sorted(body for _, body in site.received) == [b"new", b"old mine", b"old mine", b"old theirs"]
    site.hub.release_limbo()
    site.world.run_for(1)
    assert len(site.received) == 4


def test_a_dead_host_says_nothing_more():
    """It may die in the middle of a turn whose rest still runs."""
    site = Site()
    site.client.clock.stop()
    site.network.send("sim:s", "echo", b"x")
    told = site.ask()
    site.world.run_for(20)
    assert not site.received
    assert not told
