"""A whole cluster in memory: the servers that twistd runs, on real files, over Perspective Broker, in virtual time.

One controller, one group of three, a Clerk that is honest. Everything from the listener down is production code;
only the reactor is ours. What the servers say of bugs (a logged failure, a server that stops) becomes a Finding.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from fuzz_reactor import FuzzReactor
from twisted.logger import globalLogPublisher

from twisted_kv.service import assembly
from twisted_kv.service.controller import controller_server
from twisted_kv.service.group import group_server
from twisted_kv.service.node import node_server
from twisted_kv.service.settings import Settings
from twisted_kv.storage.disk import InlineDisk

GID = 100
SHARDS = 8
CONTROLLER_PORT = 7001
GROUP_PORTS = (7101, 7102, 7103)
NODE_PORT = 7000


class Finding(Exception):
    """A rule is broken."""


def endpoint(port: int) -> str:
    """The client endpoint of a port here."""
    return f"tcp:127.0.0.1:{port}"


def ram_directory() -> Path:
    """A new directory, in memory where there is such a file system."""
    return Path(tempfile.mkdtemp(prefix="kv-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


class Fingerprint(NamedTuple):
    """What must stay as it is while nothing is accepted."""

    term: int
    leader: int
    commit: int
    applied: int
    last: int
    vote: int


class Servers:
    """Servers on one reactor.

    Args:
        seed: of all their dice.
        node: one kv-node instead of a cluster.
    """

    def __init__(self, seed: int, node: bool = False) -> None:
        self.reactor = FuzzReactor()
        self.path = ram_directory()
        self.trouble: list[str] = []
        self._randoms = Random(seed)
        globalLogPublisher.addObserver(self._heard)
        with self._doors():
            settings = self._node_settings() if node else self._cluster_settings()
            make = {"controller": controller_server, "group": group_server, "node": node_server}
            self.servers = {
                int(each.listen.split(":")[1]): make[each.kind](each, self.reactor, self._failed) for each in settings
            }
            for server in self.servers.values():
                server.start().addErrback(self._failed)
            self.reactor.settle()
        for factory in self.reactor.listeners.values():
            factory._complaints._burst = factory._complaints._tokens = 1e12  # every traceback is to be heard of
        self.clerk = assembly.key_clerk(self._controllers, self.reactor, assembly.network_of(self.reactor))
        self.admin = assembly.controller_clerk(self._controllers, self.reactor, assembly.network_of(self.reactor))
        if not node:
            self.reactor.pass_seconds(2.0)
            self.wait(self.admin.join({GID: [endpoint(port) for port in GROUP_PORTS]}))
        self.wait(self.clerk.put("k", "v"))

    def close(self) -> None:
        """Stop everything and remove the files."""
        for client in (self.clerk, self.admin):
            client.close()
        for server in self.servers.values():
            server.stop()
        self.reactor.pass_seconds(5.0)
        globalLogPublisher.removeObserver(self._heard)
        shutil.rmtree(self.path, ignore_errors=True)

    def wait(self, deferred: Any, seconds: float = 30.0) -> Any:
        """The result, after as much virtual time as it needs."""
        ended: list[Any] = []
        deferred.addBoth(ended.append)
        self.reactor.settle()
        deadline = self.reactor.seconds() + seconds
        while not ended:
            if self.reactor.seconds() > deadline:
                raise Finding("an honest call did not come back")
            self.reactor.pass_seconds(0.05)
        result = ended[0]
        if hasattr(result, "raiseException"):
            result.raiseException()
        return result

    def check(self) -> None:
        """Raises Finding for what was heard since the last time."""
        if self.trouble:
            trouble, self.trouble = self.trouble, []
            raise Finding(trouble[0])

    def serves(self) -> None:
        """An honest client is served.

        Raises:
            Finding: it is not.
        """
        try:
            self.wait(self.clerk.put("honest", "yes", timeout=20.0))
            value = self.wait(self.clerk.get("honest", timeout=20.0))
        except Finding:
            raise
        except Exception as error:
            raise Finding(f"an honest call failed: {error}") from None
        if value != "yes":
            raise Finding(f"an honest client reads {value!r} after it wrote 'yes'")

    def members(self, port: int) -> list[Any]:
        """The replicas behind a port."""
        return list(self.servers[port]._tenants.members)

    def fingerprints(self, port: int) -> tuple[Fingerprint, ...]:
        """Of every replica behind a port."""
        return tuple([_fingerprint(member) for member in self.members(port) if member.replica is not None])

    def digests(self, port: int) -> tuple[tuple[int, int], ...]:
        """Of every replica behind a port: the index applied, and the digest of its machine there."""
        running = [member for member in self.members(port) if member.replica is not None]
        return tuple([(member.replica.applied, member.machine.digest()) for member in running])

    @property
    def _controllers(self) -> tuple[str, ...]:
        return (endpoint(CONTROLLER_PORT if CONTROLLER_PORT in self.servers else NODE_PORT),)

    def _cluster_settings(self) -> list[Settings]:
        def settings(kind: Any, gid: int, node: int, ports: tuple[int, ...]) -> Settings:
            port = ports[node - 1]
            return Settings(
                kind,
                self.path / str(port),
                f"tcp:{port}:interface=127.0.0.1",
                node,
                MappingProxyType({number: endpoint(each) for number, each in enumerate(ports, 1)}),
                (endpoint(CONTROLLER_PORT),) if gid else (),
                gid,
                shards=SHARDS,
                value_bytes_max=100_000,
                log_bytes_max=1 << 20,
            )

        members = [settings("group", GID, node, GROUP_PORTS) for node in (1, 2, 3)]
        return [settings("controller", 0, 1, (CONTROLLER_PORT,)), *members]

    def _node_settings(self) -> list[Settings]:
        return [Settings("node", self.path / "node", f"tcp:{NODE_PORT}:interface=127.0.0.1", shards=SHARDS)]

    @contextmanager
    def _doors(self) -> Iterator[None]:
        """Randomness from the seed, and disks that write at once."""
        kept = assembly.fresh_random, assembly.choose_disk
        assembly.fresh_random = lambda: Random(self._randoms.getrandbits(64))
        assembly.choose_disk = lambda path, reactor: InlineDisk()
        try:
            yield
        finally:
            assembly.fresh_random, assembly.choose_disk = kept

    def _failed(self, failure: Any) -> None:
        self.trouble.append(f"a server stopped: {failure.getErrorMessage()}")

    def _heard(self, event: dict[str, Any]) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self.trouble.append(f"logged as a bug: {failure.getErrorMessage()}\n{failure.getTraceback()}")


def _fingerprint(member: Any) -> Fingerprint:
    replica = member.replica
    status, state = replica.status(), replica._core._state
    return Fingerprint(status.term, status.leader, status.commit, status.applied, state.log.last, state.vote)
