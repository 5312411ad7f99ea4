"""Load on Redis: one connection, any number of commands in flight. ``python -m benchmarks.loads.resp TASK``.

Speaks as much of RESP as SET and GET need; replies come in the order of the commands.

Source: the Redis serialization protocol, version 2.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from benchmarks.loads.closed_loop import Client, main
from benchmarks.tasks import Task


class ReplyError(Exception):
    """Redis said no; its own words."""


def command(*words: bytes) -> bytes:
    """One command as it goes over the wire.

    >>> command(b"GET", b"k")
    b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n'
    """
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def replies(data: bytes) -> tuple[list[bytes | ReplyError], bytes]:
    """Whole replies, and what is left of the last one. A bulk reply of nothing is empty.

    >>> replies(b"+OK\\r\\n$2\\r\\nhi\\r\\n$-1\\r\\n$5\\r\\nhal")
    ([b'OK', b'hi', b''], b'$5\\r\\nhal')
    """
    found: list[bytes | ReplyError] = []
    begin = 0
    while (end := data.find(b"\r\n", begin)) >= 0:
        kind, line = data[begin : begin + 1], data[begin + 1 : end]
        after = end + 2
        if kind == b"$":
            size = int(line)
            if size >= 0:
                after += size + 2
                if after > len(data):
                    break
            found.append(data[end + 2 : end + 2 + max(size, 0)])
        else:
            found.append(ReplyError(line.decode(errors="replace")) if kind == b"-" else line)
        begin = after
    return found, data[begin:]


class Redis(Protocol):
    """A connection; everything that is asked in a turn of the reactor goes out together."""

    transport: Any

    def __init__(self) -> None:
        self._rest = b""
        self._asked: deque[Deferred[bytes]] = deque()
        self._closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        found, self._rest = replies(self._rest + data)
        for reply in found:
            waiting = self._asked.popleft()
            if isinstance(reply, ReplyError):
                waiting.errback(reply)
            else:
                waiting.callback(reply)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._closed.callback(None)
        while self._asked:
            self._asked.popleft().errback(ConnectionLost())

    def put(self, key: str, value: str) -> Deferred[bytes]:
        """SET."""
        return self._ask(b"SET", key.encode(), value.encode())

    def get(self, key: str) -> Deferred[bytes]:
        """GET; absent is empty."""
        return self._ask(b"GET", key.encode())

    def close(self) -> Deferred[None]:
        """Hang up."""
        self.transport.loseConnection()
        return self._closed

    def _ask(self, *words: bytes) -> Deferred[bytes]:
        if self._closed.called:
            return fail(ConnectionLost())
        waiting: Deferred[bytes] = Deferred()
        self._asked.append(waiting)
        self.transport.write(command(*words))
        return waiting


async def connect(reactor: Any, task: Task) -> Client:
    """One connection."""
    client: Client = await connectProtocol(clientFromString(reactor, task.endpoints[0]), Redis())
    return client


if __name__ == "__main__":
    main(connect)
