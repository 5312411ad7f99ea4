"""The helpers of the public Raft lab suites over raft_world, in virtual time (scenarios §2.0.1, §2.0.2).

An index here is the place of a command among all commands, from 1: the no-ops that open terms are not counted, and
several commands may share an entry. A request and a reply are two messages; a "RPC" counts the request.
"""

from collections import Counter
from collections.abc import Iterator
from random import Random

import msgspec
from raft_world import Host, Weather, World

from twisted_kv.consensus.raft.messages import MESSAGES
from twisted_kv.consensus.types import Role

RELIABLE = Weather()
UNRELIABLE = Weather(hop=(1, 27), loss=0.1)
LONG_REORDERING = Weather(hop=(1, 27), loss=0.1, held_back=2 / 3)


class Lab(World):
    """Servers 1 … n that can be disconnected, crashed and restarted one by one.

    Args:
        snapshots: the service takes a snapshot after every tenth command.
    """

    def __init__(self, servers: int, seed: int = 1, weather: Weather = RELIABLE, snapshots: bool = False) -> None:
        self.connected = set(range(1, servers + 1))
        self.bytes_sent = 0
        self.kinds: Counter[str] = Counter()
        self.dice = Random(seed)
        super().__init__(seed, servers, weather)
        self.on_send = self._count_bytes
        if snapshots:
            self.on_applied = self._snapshot

    def _count_bytes(self, message: object) -> None:
        self.bytes_sent += len(MESSAGES.encode((message,)))
        self.kinds[type(message).__name__] += 1

    def _snapshot(self, host: Host) -> None:
        if len(host.applied) // 10 > len(host.disk.rows.commands) // 10:
            self.checkpoint(host)

    def linked(self, sender: int, to: int) -> bool:
        return sender in self.connected and to in self.connected

    # ── faults ─────────────────────────────────────────────────────────────────────────────────────

    def disconnect(self, *nodes: int) -> None:
        self.connected -= set(nodes)

    def connect(self, *nodes: int) -> None:
        self.connected |= set(nodes)

    def kill(self, *nodes: int) -> None:
        """Crash; what was not saved is lost."""
        self.disconnect(*nodes)
        for node in nodes:
            if self.hosts[node].up:
                self.crash(self.hosts[node])

    def boot(self, *nodes: int) -> None:
        """Start, or restart, from disk; connected."""
        self.kill(*nodes)
        for node in nodes:
            self.start(self.hosts[node])
        self.connect(*nodes)

    def after_of(self, node: int, places: int) -> int:
        """The server so many places further on, round the circle."""
        return (node - 1 + places) % len(self.hosts) + 1

    # ── looking ────────────────────────────────────────────────────────────────────────────────────

    def term_of(self, node: int) -> int:
        return self.hosts[node].core.status().term

    def reachable(self) -> list[int]:
        return [node for node in sorted(self.connected) if self.hosts[node].up]

    def check_one_leader(self) -> int:
        for _ in range(10):
            self.run(450 + self.dice.randrange(100))
            by_term: dict[int, list[int]] = {}
            for node in self.reachable():
                status = self.hosts[node].core.status()
                if status.role is Role.LEADER:
                    by_term.setdefault(status.term, []).append(node)
            assert all(len(leaders) == 1 for leaders in by_term.values()), f"two leaders: {by_term}"
            if by_term:
                return by_term[max(by_term)][0]
        raise AssertionError("no leader within 5 s")

    def check_no_leader(self) -> None:
        assert not [node for node in self.reachable() if self.hosts[node].leads]

    def check_terms(self) -> int:
        terms = {self.term_of(node) for node in self.reachable()}
        assert len(terms) == 1, f"terms differ: {terms}"
        return terms.pop()

    def n_committed(self, index: int) -> int:
        """Servers that applied the index; that they agree is checked by World at each apply."""
        return sum(host.up and len(host.applied) >= index for host in self.hosts.values())

    def raft_state_size(self) -> int:
        """The largest Raft state of any server: term, vote and log, without rows, on disk or in memory. Bytes."""
        encode = msgspec.msgpack.encode
        sizes = []
        for host in self.hosts.values():
            logs = [list(host.disk.entries.values())]
            if host.core is not None:
                log = host.core.log
                logs.append([log.entry_at(index) for index in range(log.first, log.last + 1)])
            sizes += [len(encode(host.disk.hard_state)) + sum(len(encode(entry)) for entry in log) for log in logs]
        return max(sizes)

    # ── commands ───────────────────────────────────────────────────────────────────────────────────

    def random_command(self, size: int = 8) -> bytes:
        return self.dice.randbytes(size)

    def submit(self, node: int, command: bytes) -> tuple[int, int] | None:
        """Start: (index, term) at which the command stands if committed, or None when this is no leader."""
        host = self.hosts[node]
        before = len(host.applied)
        if host.core is not None:
            log = host.core.log
            before += sum(len(log.entry_at(i).commands) for i in range(host.at.index + 1, log.last + 1))
        ticket = self.propose(host, command)
        if ticket is None:
            return None
        return before + self._in_open_entry(host, ticket.index, ticket.position) + 1, ticket.term

    def _in_open_entry(self, host: Host, index: int, position: int) -> int:
        # While a save is under way the open entry is not in the log yet, so its earlier commands were not counted.
        log = host.core.log
        return position if log.last < index else 0

    def one(self, command: bytes, servers: int, retry: bool) -> int:
        """Commit a command on at least so many servers; its index."""
        deadline = self.now + 10_000
        turn = 0
        while self.now < deadline:
            accepted = None
            for _ in range(len(self.hosts)):
                turn = turn % len(self.hosts) + 1
                if turn in self.connected:
                    accepted = self.submit(turn, command)
                    if accepted:
                        break
            if accepted is None:
                self.run(50)
                continue
            index, _ = accepted
            if self.run_until(lambda index=index: self.holders(index, command) >= servers, 2000, 20):
                return index
            assert retry, f"no agreement on {command!r} by {servers} servers"
        raise AssertionError(f"no agreement on {command!r} by {servers} servers within 10 s")

    def holders(self, index: int, command: bytes) -> int:
        return sum(
            host.up and len(host.applied) >= index and host.applied[index - 1] == command
            for host in self.hosts.values()
        )

    def wait(self, index: int, servers: int, term: int = -1) -> bytes | None:
        """The command at an index once so many servers applied it; None if a term beyond ``term`` has begun."""
        pause = 10
        for _ in range(30):
            if self.n_committed(index) >= servers:
                break
            self.run(pause)
            pause = min(2 * pause, 1280)
            if term > -1 and any(self.term_of(node) > term for node in self.hosts if self.hosts[node].up):
                return None
        assert self.n_committed(index) >= servers, f"only {self.n_committed(index)} servers applied {index}"
        return self.order[index - 1]

    def spawn(self, steps: Iterator[int]) -> None:
        """Run a client beside the script: a generator that yields the milliseconds it sleeps."""
        pause = next(steps, None)
        if pause is not None:
            self.after(pause, self.spawn, steps)


def number(value: int) -> bytes:
    """A lab command as bytes."""
    return b"%d" % value
