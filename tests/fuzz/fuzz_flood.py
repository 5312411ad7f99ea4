"""Floods a real server: a kv-node of its own process, thousands of connections that do nothing, too little or too much,
and one honest Clerk that has to be served all the while.

Judged: every honest call succeeds, within HONEST_SECONDS_MAX; the server's memory, descriptors and log stay bounded;
it accepts again when descriptors have run out. The latencies and figures are told, not judged.
"""

from __future__ import annotations

import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_messages import GREETING, NOTHING, _encoded
from fuzz_servers import Finding

from twisted_kv.admin.cluster import free_ports, twistd
from twisted_kv.codec import Codec
from twisted_kv.machines.commands import Read
from twisted_kv.transport.wire import KV_READ

HONEST_SECONDS_MAX = 20.0
GROWN_BYTES_MAX = 256 << 20
LOG_LINES_PER_SECOND_MAX = 5.0
LOG_LINES_MAX = 300
VALUE_BYTES = 200_000
ANY: Codec[Any] = Codec(object)

HONEST = """
import sys, time
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted_kv import Clerk

async def serve():
    clerk = Clerk([sys.argv[1]], reactor)
    await clerk.put("large", "v" * int(sys.argv[2]), timeout=20)
    count = 0
    while True:
        began = time.monotonic()
        await clerk.append("honest", f"{count};", timeout=20)
        value = await clerk.get("honest", timeout=20)
        assert value.endswith(f"{count};")
        print(time.monotonic() - began, flush=True)
        count += 1
        if count % 200 == 0:
            await clerk.put("honest", "", timeout=20)

def ended(failure):
    print(f"failed: {failure.getErrorMessage()}", flush=True)
    reactor.stop()

ensureDeferred(serve()).addErrback(ended)
reactor.run()
"""


@dataclass
class Flooded:
    """What one kind of flood did.

    Attributes:
        connections: that were made.
        honest: seconds of each pair of honest calls meanwhile.
        grown: bytes by which the server's memory has grown at its highest.
        descriptors: the most that the server had open.
    """

    name: str
    connections: int = 0
    honest: list[float] = field(default_factory=list)
    grown: int = 0
    descriptors: int = 0

    def __str__(self) -> str:
        worst = max(self.honest, default=0.0)
        return (
            f"{self.name:<22} {self.connections:>6} connections  {len(self.honest):>5} honest pairs"
            f"  worst {worst:5.2f} s  memory +{self.grown >> 20} MiB  descriptors {self.descriptors}"
        )


class Server:
    """A kv-node and its honest client, each a process; ended whatever happens."""

    def __init__(self, path: Path, descriptors_max: int | None = None) -> None:
        [self.port] = free_ports(1)
        self._log = path / "node.log"
        arguments = ["--nodaemon", "--pidfile=", "kv-node", "--data", str(path / "node")]
        arguments += ["--listen", f"tcp:{self.port}:interface=127.0.0.1"]

        def limited() -> None:
            if descriptors_max is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max, descriptors_max))

        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*twistd(), *arguments], stdout=log, stderr=log, preexec_fn=limited)
        client = [sys.executable, "-c", HONEST, f"tcp:127.0.0.1:{self.port}", str(VALUE_BYTES)]
        self.client = subprocess.Popen(client, stdout=subprocess.PIPE, text=True)
        self.pairs: list[float] = []
        self.failure = ""
        self._heard = threading.Condition()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.wait_for_pairs(3)

    def close(self) -> None:
        """End both."""
        for process in (self.client, self.process):
            process.kill()
            process.wait()
        self._reading.join()
        assert self.client.stdout is not None
        self.client.stdout.close()

    def _read(self) -> None:
        assert self.client.stdout is not None
        for line in self.client.stdout:
            with self._heard:
                if line.startswith("failed"):
                    self.failure = line.strip()
                else:
                    self.pairs.append(float(line))
                self._heard.notify_all()
        with self._heard:
            self.failure = self.failure or "the honest client has ended"
            self._heard.notify_all()

    def wait_for_pairs(self, count: int) -> None:
        """Wait until so many more pairs of honest calls have been answered.

        Raises:
            Finding: they were not.
        """
        with self._heard:
            enough = len(self.pairs) + count
            # A server that ends is noticed too: its client then fails.
            self._heard.wait_for(lambda: self.failure or len(self.pairs) >= enough, 2 * HONEST_SECONDS_MAX)
            if len(self.pairs) < enough:
                raise Finding(f"the honest client is not served: {self.failure or 'no answer'}; {self.last_words()}")

    def last_words(self) -> str:
        """The end of the server's log."""
        return self._log.read_text(errors="replace")[-600:]

    def log_lines(self) -> int:
        return self._log.read_bytes().count(b"\n")

    def said(self, text: str) -> bool:
        """Whether the server's log has it."""
        return text in self._log.read_text(errors="replace")

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def connect(self) -> socket.socket | None:
        """A new connection; None if there is no room for it."""
        connection = socket.socket()
        connection.settimeout(2.0)
        try:
            connection.connect(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            return None
        connection.setblocking(False)
        return connection


# ── kinds of floods: each yields after every step ──────────────────────────────────────────────────


def idle(server: Server, count: int) -> Iterator[int]:
    """Connections that never say a word."""
    with _held() as held:
        for _ in range(count):
            held.append(server.connect())
            yield 1


def greeted(server: Server, count: int) -> Iterator[int]:
    """Connections that negotiate, and then never say a word."""
    with _held() as held:
        for _ in range(count):
            held.append(server.connect())
            _send(held[-1], GREETING)
            yield 1


def half_said(server: Server, count: int) -> Iterator[int]:
    """Connections that begin a large call and never go on."""
    half = GREETING + _encoded([b"message", 1, b"root", b"put", 1, [b"tuple", bytes(600_000)], NOTHING])[:60_000]
    with _held() as held:
        for _ in range(count):
            held.append(server.connect())
            _send(held[-1], half)
            yield 1


def churn(server: Server, count: int) -> Iterator[int]:
    """Connections that come and go at once, some with a reset."""
    for number in range(count):
        with _held() as held:
            held.append(server.connect())
            _send(held[-1], GREETING if number % 2 else b"\x00")
            if held[-1] is not None and number % 3 == 0:
                held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        yield 1


def garbage(server: Server, count: int) -> Iterator[int]:
    """Connections that pour noise for as long as they are let."""
    noise = random.Random(7)
    with _held() as held:
        for number in range(count):
            held.append(server.connect())
            _send(held[-1], GREETING if number % 2 else b"")
            for each in held[-20:]:
                _send(each, noise.randbytes(20_000))
            yield 1


def bad_calls(server: Server, count: int) -> Iterator[int]:
    """Calls that fail, thousands on one connection after the other: the log must not tell each."""
    calls = b"".join(
        _encoded([b"message", number, b"root", name, 0, [b"tuple", b"x"], NOTHING])
        for number in range(200)
        for name in (b"nonsense\n", b"peer_step", b"kv_write", b"put")
    )
    for _ in range(count):
        with _held() as held:
            held.append(server.connect())
            _send(held[-1], GREETING + calls)
            yield 1


def slow_readers(server: Server, count: int) -> Iterator[int]:
    """Connections that ask for large answers and never read them."""
    body = ANY.encode(Read(("large",)))
    ask = b"".join(
        _encoded([b"message", n, b"root", KV_READ.encode(), 1, [b"tuple", body], NOTHING]) for n in range(60)
    )
    with _held() as held:
        for _ in range(count):
            held.append(server.connect())
            _send(held[-1], GREETING + ask)
            yield 1


def stopped_client(server: Server, count: int) -> Iterator[int]:
    """Another Clerk that is stopped in the middle of its calls, and goes on in the end."""
    client = [sys.executable, "-c", HONEST, f"tcp:127.0.0.1:{server.port}", str(VALUE_BYTES)]
    with subprocess.Popen(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for number in range(min(count, 40)):
                if number == 5:
                    process.send_signal(signal.SIGSTOP)
                yield int(number == 0)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


FLOODS: dict[str, Callable[[Server, int], Iterator[int]]] = {
    each.__name__: each for each in (idle, greeted, half_said, churn, garbage, bad_calls, slow_readers, stopped_client)
}


# ── the hunt ───────────────────────────────────────────────────────────────────────────────────────


def flood(path: Path, count: int, told: Callable[[str], None], names: tuple[str, ...] = tuple(FLOODS)) -> list[Flooded]:
    """Each kind of flood, one after the other, on one server; then one that has too few descriptors.

    Args:
        path: an empty directory.
        count: connections of each kind.
    Raises:
        Finding: a rule is broken.
    """
    done = []
    server = Server(path)
    try:
        for name in names:
            done.append(_flooded(server, name, FLOODS[name](server, count)))
            told(str(done[-1]))
        if server.said("Traceback"):
            raise Finding(f"the server logs a traceback: {server.last_words()}")
    finally:
        server.close()
    done.append(out_of_descriptors(path, min(count, 300)))
    told(str(done[-1]))
    return done


def _flooded(server: Server, name: str, steps: Iterator[int]) -> Flooded:
    result = Flooded(name)
    first, resident, lines, began = len(server.pairs), server.resident_bytes(), server.log_lines(), time.monotonic()
    for number, made in enumerate(steps):
        result.connections += made
        if number % 20 == 0:
            result.grown = max(result.grown, server.resident_bytes() - resident)
            result.descriptors = max(result.descriptors, server.descriptors())
        if number % 50 == 49:
            server.wait_for_pairs(1)
    server.wait_for_pairs(3)
    result.honest = server.pairs[first:]
    result.grown = max(result.grown, server.resident_bytes() - resident)
    if result.grown > GROWN_BYTES_MAX:
        raise Finding(f"{name}: the server has grown by {result.grown >> 20} MiB")
    if max(result.honest) > HONEST_SECONDS_MAX:
        raise Finding(f"{name}: an honest pair of calls took {max(result.honest):.1f} s")
    said, allowed = server.log_lines() - lines, LOG_LINES_MAX + LOG_LINES_PER_SECOND_MAX * (time.monotonic() - began)
    if said > allowed:
        raise Finding(f"{name}: {said} lines were logged: {server.last_words()}")
    return result


def out_of_descriptors(path: Path, count: int, descriptors_max: int = 120) -> Flooded:
    """A server that may open few files: it must live through it, and serve again when they are free.

    The honest client has its connection already; who comes meanwhile may be turned away.
    """
    path = path / "few"
    path.mkdir()
    server, result = Server(path, descriptors_max), Flooded("out of descriptors")
    try:
        first = len(server.pairs)
        with _held() as held:
            for _ in range(count):
                held.append(server.connect())
                _send(held[-1], GREETING)
            result.connections = sum(each is not None for each in held)
            result.descriptors = server.descriptors()
            server.wait_for_pairs(2)
        server.wait_for_pairs(2)
        result.honest = server.pairs[first:]
        deadline = time.monotonic() + HONEST_SECONDS_MAX
        while not _negotiates(server):
            if time.monotonic() > deadline:
                raise Finding(f"newcomers are not served when descriptors are free again: {server.last_words()}")
            server.wait_for_pairs(1)
    finally:
        server.close()
    return result


def _negotiates(server: Server) -> bool:
    connection = server.connect()
    if connection is None:
        return False
    with connection, selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        _send(connection, GREETING)
        if not selector.select(2.0):
            return False
        with suppress(OSError):
            return bool(connection.recv(100))
    return False


@contextmanager
def _held() -> Iterator[list[socket.socket | None]]:
    held: list[socket.socket | None] = []
    try:
        yield held
    finally:
        for connection in held:
            if connection is not None:
                connection.close()


def _send(connection: socket.socket | None, data: bytes) -> None:
    """As much as goes at once."""
    if connection is not None:
        with suppress(OSError):
            connection.send(data)
