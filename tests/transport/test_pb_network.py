"""The network door over real sockets on loopback, and what a plain script sees of it."""

import pytest
from pb_testing import MemoryTransport, Served, echo, encoded, reactor_test, stock_root, turns, until
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, gatherResults, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.spread import pb

from twisted_kv.constants import MIB
from twisted_kv.errors import KeyTooLong, StartRefused, Unavailable
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport.links import PATIENCE
from twisted_kv.transport.network import PBNetwork


async def raised(deferred):
    """What a Deferred fails with."""
    with pytest.raises(Exception) as caught:
        await deferred
    return caught.value


@reactor_test()
async def test_calls_are_answered_and_many_may_be_in_flight():
    async with Served({"echo": echo}) as served:
        bodies = [b"%d" % number for number in range(500)]
        assert await gatherResults([served.call("echo", body) for body in bodies]) == bodies
        assert served.listening.connections == 1


@reactor_test()
async def test_sixteen_mib_cross_both_ways():
    """Scenario §3.6-50, contract §6: values up to 16 MiB."""
    body = bytes(range(256)) * (16 * MIB // 256)
    async with Served({"echo": echo}) as served:
        assert await served.call("echo", body, timeout=10) == body
        assert served.network.backlog(served.endpoint) == 0


@reactor_test()
async def test_a_listener_tells_what_large_bodies_it_holds_and_forgets_them():
    waiting = Deferred()
    async with Served({"hang": lambda body: waiting}) as served:
        asked = served.call("hang", b"x" * MIB, timeout=10)
        await until(lambda: served.listening.transfer_bytes == MIB)
        waiting.callback(b"y" * MIB)
        assert await asked == b"y" * MIB
        assert served.listening.transfer_bytes == 0


@reactor_test()
async def test_small_bodies_overtake_a_large_one_on_a_socket():
    """House: heartbeats overtake chunks. Two dozen round trips fit into one large body."""
    order = []
    async with Served({"write": lambda body: succeed(b"")}) as served:
        large = served.call("write", b"x" * 16 * MIB, timeout=10)
        large.addCallback(lambda _: order.append("large"))
        for number in range(5):
            await served.call("write", b"small")
            order.append(number)
        await large
    assert order == [0, 1, 2, 3, 4, "large"]


@reactor_test()
async def test_one_way_sends_arrive():
    got = []
    async with Served({"step": lambda body: (got.append(body), succeed(b""))[1]}) as served:
        for number in range(20):
            served.network.send(served.endpoint, "step", b"%d" % number)
        await until(lambda: len(got) == 20)
    assert got == [b"%d" % number for number in range(20)]


@reactor_test()
async def test_a_link_comes_back_when_its_server_does_on_the_same_port():
    """Scenario §3.6-51."""
    async with Served({"echo": echo, "hang": lambda body: Deferred()}) as served:
        assert await served.call("echo", b"before") == b"before"
        hanging = served.call("hang")
        await served.call("echo", b"x")
        await served.listening.stop()
        assert type(await raised(hanging)) is LostAnswer
        assert type(await raised(served.call("echo"))) is NotSent
        served.listening = await served.network.listen(f"tcp:{served.port}:interface=127.0.0.1", {"echo": echo}, {})
        assert await served.call("echo", b"after") == b"after"


@reactor_test()
async def test_nobody_there_is_not_sent_at_once():
    async with Served({"echo": echo}) as served:
        await served.listening.stop()
        assert type(await raised(served.call("echo", timeout=60))) is NotSent


@pytest.mark.parametrize("endpoint", ["nonsense", "tcp:127.0.0.1", "tcp:127.0.0.1:x", "", "tcp:127.0.0.1:70000"])
@reactor_test()
async def test_a_bad_endpoint_is_not_sent_with_a_clear_text_and_a_send_does_not_raise(endpoint):
    """Contract §1: endpoint strings go to Twisted unchanged, and it says what is wrong."""
    from twisted.internet import reactor

    network = PBNetwork(reactor)
    error = await raised(network.call(endpoint, "echo", b"", 5))
    assert type(error) is NotSent and (endpoint in str(error))
    assert type(await raised(network.ask(endpoint, "status", timeout=5))) is NotSent
    network.send(endpoint, "echo", b"")
    assert network.backlog(endpoint) == 0
    await network.close()


class Silent(Protocol):
    """Takes the connection and never says a word."""


class Closing(Protocol):
    """Closes at once."""

    def connectionMade(self):
        self.transport.loseConnection()


@pytest.mark.parametrize("kind", [Silent, Closing])
@reactor_test()
async def test_peers_that_are_silent_or_close_at_once_are_given_up(kind):
    """Ecosystem §1.7: under endpoints a naive getRootObject would hang for ever."""
    from twisted.internet import reactor

    factory = Factory.forProtocol(kind)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    network = PBNetwork(reactor, PATIENCE._replace(greeting=0.1))
    error = await raised(network.call(f"tcp:127.0.0.1:{port.getHost().port}", "echo", b"", 5))
    assert type(error) is NotSent
    await network.close()
    await port.stopListening()


@reactor_test()
async def test_timeouts_and_cancelling():
    """INetwork: handed over and not answered is LostAnswer; a caller who cancels gets CancelledError."""
    async with Served({"hang": lambda body: Deferred(), "echo": echo}) as served:
        await served.call("echo")
        assert type(await raised(served.call("hang", timeout=0.05))) is LostAnswer
        call = served.call("hang")
        call.cancel()
        assert type(await raised(call)) is CancelledError
        assert await served.call("echo", b"x") == b"x"


@reactor_test()
async def test_a_closed_network_door_sends_nothing_and_leaves_nothing():
    async with Served({"echo": echo, "hang": lambda body: Deferred()}) as served:
        hanging = served.call("hang")
        await served.call("echo")
        await served.network.close()
        assert type(await raised(hanging)) is LostAnswer
        assert type(await raised(served.call("echo"))) is NotSent
        assert type(await raised(served.network.call("tcp:127.0.0.1:1", "echo", b"", 1))) is NotSent
        await until(lambda: served.listening.connections == 0)
        await served.network.close()


@reactor_test()
async def test_an_idle_link_closes_and_the_next_call_makes_another():
    async with Served({"echo": echo}, patience=PATIENCE._replace(idle=0.0)) as served:
        assert await served.call("echo", b"1") == b"1"
        await until(lambda: served.listening.connections == 0)
        assert await served.call("echo", b"2") == b"2"


def test_close_waits_for_links_that_are_closing_themselves():
    """INetwork: fires when all are gone."""
    reactor, closed = MemoryReactorClock(), []
    network = PBNetwork(reactor)
    network.send("tcp:127.0.0.1:7001", "step", b"")
    protocol = reactor.tcpClients[0][2].buildProtocol(None)
    transport = MemoryTransport(protocol)
    protocol.makeConnection(transport)
    protocol.dataReceived(encoded([b"pb"]))
    while not transport.disconnecting:
        assert reactor.seconds() < 2 * PATIENCE.idle
        reactor.advance(0.5)
        protocol.dataReceived(encoded([b"answer", 2, b""]) if b"wire_ping" in transport.taken() else b"")
    network.close().addCallback(closed.append)
    assert closed == []
    transport.lose()
    assert closed == [None] and reactor.getDelayedCalls() == []


@reactor_test()
async def test_stop_frees_the_port_and_ends_live_connections():
    """Ecosystem fact 10."""
    async with Served(plain={"get": succeed}) as served:
        root = await stock_root(served)
        assert await root.callRemote("get", 1) == 1
        lost = Deferred()
        root.notifyOnDisconnect(lambda ref: lost.callback(None))
        await served.listening.stop()
        await lost
        again = await served.network.listen(f"tcp:{served.port}:interface=127.0.0.1", {}, {})
        await again.stop()


@reactor_test()
async def test_what_cannot_be_listened_on_refuses_the_start_in_one_line():
    """Contract §1: one clear line."""
    async with Served() as served:
        for endpoint in (
            f"tcp:{served.port}:interface=127.0.0.1",
            "nonsense:1",
            "tcp:x",
            "unix:/nowhere/at/all/kv.sock",
        ):
            error = await raised(served.network.listen(endpoint, {}, {}))
            assert type(error) is StartRefused
            assert endpoint in error.text and "\n" not in error.text


@reactor_test()
async def test_unix_sockets_serve_as_well(tmp_path):
    """Contract §1: nothing is assumed about endpoints."""
    async with Served() as served:
        listening = await served.network.listen(f"unix:{tmp_path}/kv.sock", {"echo": echo}, {})
        large = b"x" * MIB
        assert await served.network.call(f"unix:{tmp_path}/kv.sock", "echo", large, 5) == large
        await listening.stop()


# ── a plain script (contract §4) ───────────────────────────────────────────────────────────────────


def plain_names():
    store = {}

    def put(key, value):
        if len(key) > 100:
            return fail(KeyTooLong(f"{len(key)} bytes"))
        store[key] = value
        return succeed(None)

    def get(key):
        return succeed(store.get(key, ""))

    def query(num):
        return succeed({"num": num, "shards": [100, 0], "groups": {100: ["tcp:127.0.0.1:7101"]}})

    def down():
        return fail(Unavailable("no leader answered within 10 s"))

    return {"put": put, "get": get, "query": query, "down": down, "big": lambda: succeed("é" * 400_000)}


@reactor_test()
async def test_a_script_that_imports_nothing_of_ours_can_use_a_server():
    async with Served(plain=plain_names()) as served:
        root = await stock_root(served)
        assert await root.callRemote("put", "k", "v") is None
        assert await root.callRemote("get", "k") == "v"
        assert await root.callRemote("put", "b", b"\x00\xff") is None
        assert await root.callRemote("get", "b") == b"\x00\xff"
        assert await root.callRemote("get", key="nobody") == ""
        assert await root.callRemote("query", -1) == {
            "num": -1,
            "shards": [100, 0],
            "groups": {100: ["tcp:127.0.0.1:7101"]},
        }
        root.broker.transport.loseConnection()


@reactor_test()
async def test_a_script_reads_errors_by_name_and_text_and_the_connection_lives_on():
    async with Served(plain=plain_names()) as served:
        root = await stock_root(served)
        for args, kind, text in (
            (("put", "k" * 101, "v"), b"KeyTooLong", "KeyTooLong: 101 bytes; definite; final"),
            (("down",), b"Unavailable", "Unavailable: no leader answered within 10 s; definite; retryable"),
            (("nobody",), b"BadRequest", "BadRequest: there is no remote name nobody; definite; final"),
        ):
            error = await raised(root.callRemote(*args))
            assert type(error) is pb.RemoteError
            assert (error.remoteType, str(error)) == (b"twisted_kv.errors." + kind, text)
        error = await raised(root.callRemote("big"))
        assert error.remoteType == b"twisted_kv.errors.ValueTooLarge"
        assert str(error).startswith("ValueTooLarge: ") and str(error).endswith("; definite; final")
        assert await root.callRemote("get", "k") == ""
        root.broker.transport.loseConnection()


@reactor_test()
async def test_a_script_that_passes_an_object_of_its_own_gets_an_error_and_not_a_hang():
    async with Served(plain=plain_names()) as served:
        root = await stock_root(served)
        for odd in ({1, 2}, pb.Referenceable(), frozenset((1,))):
            error = await raised(root.callRemote("put", "k", odd))
            assert error.remoteType == b"twisted_kv.errors.WrongType"
        root.broker.transport.loseConnection()


@reactor_test()
async def test_ask_is_what_a_script_does():
    async with Served(plain=plain_names()) as served:
        assert await served.network.ask(served.endpoint, "put", "k", [1, {"a": None}], timeout=5) is None
        assert await served.network.ask(served.endpoint, "get", "k", timeout=5) == [1, {"a": None}]
        error = await raised(served.network.ask(served.endpoint, "put", "k" * 101, "v", timeout=5))
        assert type(error) is KeyTooLong and error.text == "101 bytes"


@reactor_test()
async def test_a_stranger_who_does_not_speak_perspective_broker_is_cut_and_others_are_not_disturbed():
    """Hazards §0.4."""
    from twisted.internet import reactor

    class Stranger(Protocol):
        def connectionMade(self):
            self.transport.write(b"\x01\x80" * 100_000)

        def connectionLost(self, reason):
            self.factory.lost.callback(reason.check(ConnectionDone, ConnectionLost))

    async with Served({"echo": echo}) as served:
        await served.call("echo")
        factory = Factory.forProtocol(Stranger)
        factory.lost = Deferred()
        connecting = protocol_connected(reactor, served.port, factory)
        assert await factory.lost is not None
        await connecting
        assert await served.call("echo", b"x") == b"x"
        assert served.listening.connections == 1


def protocol_connected(reactor, port, factory):
    from twisted.internet.endpoints import TCP4ClientEndpoint

    factory.noisy = False
    return TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)


@reactor_test()
async def test_calls_made_together_when_the_server_goes_all_come_to_an_end():
    """Scenario §3.6-51: no call may hang."""
    async with Served({"echo": echo, "hang": lambda body: Deferred()}) as served:
        calls = [served.call("hang", b"%d" % number) for number in range(50)]
        calls += [served.call("hang", b"x" * MIB) for _ in range(5)]
        await turns(5)
        await served.listening.stop()
        results = await DeferredList(calls, consumeErrors=True)
        assert {failure.type for ok, failure in results} <= {LostAnswer, NotSent}
        assert not any(ok for ok, _ in results)
