"""Bytes leave at once, and in order."""

from __future__ import annotations

import socket

import pytest
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection

from twisted_kv.transport.sending import sender


class Turns:
    """A reactor, as far as a transport asks it to watch; nobody watches before ``turn``."""

    def __init__(self):
        self.writers = []

    def addWriter(self, transport):
        self.writers.append(transport)

    def removeWriter(self, transport):
        self.writers.remove(transport)

    def removeReader(self, transport):
        pass

    def turn(self):
        for transport in list(self.writers):
            transport.doWrite()


@pytest.fixture
def pair():
    """A transport on one end of a connection, the other end, and the reactor."""
    ours, other = socket.socketpair()
    for end in (ours, other):
        end.setblocking(False)
    turns = Turns()
    transport = Connection(ours, Protocol(), turns)
    transport.connected = 1
    yield transport, other, turns
    ours.close()
    other.close()


def read(other):
    """What has arrived."""
    arrived = b""
    while True:
        try:
            piece = other.recv(1 << 20)
        except BlockingIOError:
            return arrived
        if not piece:
            return arrived
        arrived += piece


def test_nothing_waits_for_a_turn(pair):
    """Issue: one fsync in parallel with the followers', no artificial waits."""
    transport, other, turns = pair
    send = sender(transport)
    send(b"one")
    send(b"two")
    assert read(other) == b"onetwo"
    assert not turns.writers


def test_what_the_socket_does_not_take_is_sent_later_and_nothing_overtakes_it(pair):
    transport, other, turns = pair
    send = sender(transport)
    large = bytes(range(256)) * 8192
    send(large)
    assert turns.writers, "it does not fit into a socket's buffer"
    send(b"small")
    arrived = read(other)
    assert large.startswith(arrived) and arrived != large
    while turns.writers:
        turns.turn()
        arrived += read(other)
    assert arrived == large + b"small"
    send(b"again")
    assert read(other) == b"again"
    assert not turns.writers


def test_behind_a_transport_that_waits_nothing_is_sent_at_once(pair):
    transport, other, turns = pair
    transport.write(b"first ")
    sender(transport)(b"second")
    assert read(other) == b""
    turns.turn()
    assert read(other) == b"first second"


def test_a_lost_connection_is_left_to_the_reactor(pair):
    transport, other, turns = pair
    other.close()
    send = sender(transport)
    send(b"x")
    assert turns.writers == [transport]
    transport.connected = 0
    send(b"y")


def test_who_closes_takes_nothing_more(pair):
    transport, other, turns = pair
    transport.write(b"last words")
    transport.loseConnection()
    sender(transport)(b" and one more")
    assert read(other) == b""
    while turns.writers and not transport.disconnected:
        turns.turn()
        turns.writers = []
    assert b"last words" in read(other)


def test_nothing_passes_by_encryption(pair, monkeypatch):
    transport, other, _ = pair
    written = []
    monkeypatch.setattr(transport, "TLS", True, raising=False)
    monkeypatch.setattr(transport, "write", written.append)
    sender(transport)(b"secret")
    assert (read(other), written) == (b"", [b"secret"])


def test_any_other_transport_writes_for_itself():
    class Other:
        def write(self, data):
            raise AssertionError

    other = Other()
    assert sender(other) == other.write
