"""Many groups that nobody asks anything: ``python -m benchmarks.loads.idle_groups CROWD``.

Every group is a real one of one replica, with links and files of its own; all share this process, for a process each
would be more than a machine can hold. They join in one configuration. The process says ``begin`` when all of them have
taken it, ``end`` when the time is up, and last what they have asked the controllers meanwhile, as JSON. Decides
nothing of what groups do.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from benchmarks.loads.closed_loop import run
from benchmarks.tasks import PATIENCE_SECONDS
from twisted_kv import ControllerClerk
from twisted_kv.admin.cluster import free_ports
from twisted_kv.replica.member import Member
from twisted_kv.service.assembly import assemble_group
from twisted_kv.service.group import Options
from twisted_kv.service.server import ListeningServer, Tenants
from twisted_kv.service.settings import Settings
from twisted_kv.transport.network import PBNetwork

LOOK_SECONDS: Final = 0.1
SETTLED_SECONDS: Final = 3.0
"""After the last group has taken its configuration, before anything counts."""


@dataclass(frozen=True)
class Crowd:
    """What is started.

    Attributes:
        endpoints: of the controllers.
        directory: for the groups' files.
        seconds: for which it is counted.
    """

    endpoints: tuple[str, ...]
    directory: str
    groups: int
    seconds: float

    def as_argument(self) -> str:
        """The one argument of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Crowd:
        """The reverse."""
        fields = json.loads(text)
        return cls(**{**fields, "endpoints": tuple(fields["endpoints"])})


class CountedNetwork(PBNetwork):
    """The network of one group, and how often each verb was called over it."""

    def __init__(self, reactor: Any, calls: Counter[str]) -> None:
        super().__init__(reactor)
        self._calls = calls

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        self._calls[verb] += 1
        return super().call(endpoint, verb, body, timeout)


async def carry_out(reactor: Any, crowd: Crowd) -> str:
    """The groups form, join, and idle; returns the counts as JSON."""
    calls: Counter[str] = Counter()
    members: list[Member] = []
    servers: list[ListeningServer] = []
    ports = free_ports(crowd.groups)
    for gid, port in enumerate(ports, 1):
        network = CountedNetwork(reactor, calls)
        settings = settings_of(crowd, gid, port)

        def furnish(_: Any, settings: Settings = settings, network: CountedNetwork = network) -> Tenants:
            members.append(assemble_group(settings, reactor, network, fail))
            return Tenants((members[-1],), (), {})

        servers.append(ListeningServer(settings.listen, network, furnish, fail))
    administrator = ControllerClerk(list(crowd.endpoints), reactor)
    try:
        # All at once: a port is taken before any of them dials out.
        await gatherResults([server.start() for server in servers])
        await administrator.join(
            {gid: [f"tcp:127.0.0.1:{port}"] for gid, port in enumerate(ports, 1)}, timeout=PATIENCE_SECONDS
        )
        while not all(member.status()["configuration"] for member in members):
            await deferLater(reactor, LOOK_SECONDS)
        await deferLater(reactor, SETTLED_SECONDS)
        calls.clear()
        print("begin", flush=True)
        await deferLater(reactor, crowd.seconds)
        print("end", flush=True)
        return json.dumps(calls)
    finally:
        await administrator.close()
        await gatherResults([server.stop() for server in servers])


def settings_of(crowd: Crowd, gid: int, port: int) -> Settings:
    """A group of one replica, as its command line would say it."""
    options = Options()
    words = [f"--gid={gid}", "--node=1", f"--data={Path(crowd.directory) / f'crowd-{gid}'}"]
    words += [f"--listen=tcp:{port}:interface=127.0.0.1", f"--peer=1=tcp:127.0.0.1:{port}"]
    options.parseOptions([*words, *[f"--controller={endpoint}" for endpoint in crowd.endpoints]])
    return options.settings


def fail(failure: Failure) -> None:
    """A server cannot go on."""
    failure.printBriefTraceback(sys.stderr)


if __name__ == "__main__":
    run(lambda reactor: carry_out(reactor, Crowd.from_argument(sys.argv[1])))
