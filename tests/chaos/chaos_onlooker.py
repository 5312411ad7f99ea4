"""Looks at every server from beside the proxies: who leads, how far it is, and what its files hold.

Decides when a cluster has come to rest, and compares replicas at rest: each is built anew from what its files say,
rows of the checkpoint and entries behind it, read-only while the server runs. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from chaos_servers import Fleet, Server
from twisted.internet.defer import DeferredList
from twisted.internet.task import LoopingCall

from twisted_kv.admin.inspect import opened
from twisted_kv.codec import Codec
from twisted_kv.consensus.types import Entry
from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.storage.data_store import Snapshot
from twisted_kv.storage.schema import DATA, LOG
from twisted_kv.transport.network import PBNetwork

LOOK_SECONDS: Final = 0.7
ASK_SECONDS: Final = 3.0
READINGS_MAX: Final = 5
_ENTRIES: Codec[Entry] = Codec(Entry)


class Onlooker:
    """Asks all servers for their status again and again.

    Attributes:
        statuses: name → what the server said last of itself; absent: nothing when last asked.
        wrong: what cannot be.
    """

    def __init__(self, reactor: Any, fleet: Fleet) -> None:
        self._fleet = fleet
        self._network = PBNetwork(reactor)
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor
        self._led: dict[tuple[int, int], str] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.wrong: set[str] = set()

    def start(self) -> None:
        """Begin to ask."""
        self._looking.start(LOOK_SECONDS, now=False)

    async def close(self) -> None:
        """Ask no more."""
        if self._looking.running:
            self._looking.stop()
        await self._network.close()

    def leader(self, gid: int) -> Server | None:
        """Who led a group when last asked."""
        leaders = [
            (status["term"], name)
            for name, status in self.statuses.items()
            if status["role"] == "leader" and self._fleet.servers[name].gid == gid
        ]
        return self._fleet.servers[max(leaders)[1]] if leaders else None

    def look(self) -> Any:
        """Ask everybody once; fires when all have answered or will not."""
        asking = []
        for server in self._fleet:
            if server.port is None:
                self.statuses.pop(server.name, None)
            else:
                endpoint = f"tcp:127.0.0.1:{server.port}"
                asked = self._network.ask(endpoint, "status", timeout=ASK_SECONDS)
                asking.append(asked.addCallbacks(self._told, self._silent, (server,), None, (server,)))
        return DeferredList(asking)

    def unrest(self, num: int | None, quiet: bool) -> str:
        """Why the cluster has not come to rest, as far as the last answers show; "" if it has.

        Args:
            num: of the newest configuration; None: it is not known.
            quiet: whether nobody calls, so that members of a group must stand at the same index.
        """
        silent = [server.name for server in self._fleet if server.name not in self.statuses]
        if silent:
            return f"no answer of {', '.join(silent)}"
        for gid, members in self._fleet.groups.items():
            told = {server.name: self.statuses[server.name] for server in members}
            leaders = {name: status["term"] for name, status in told.items() if status["role"] == "leader"}
            if len(leaders) != 1 or len({status["term"] for status in told.values()}) != 1:
                return f"group {gid} is not led: {_facts(told, 'role', 'term')}"
            if any(status["migrations"] for status in told.values()):
                return f"group {gid} is not done moving: {_facts(told, 'migrations', 'copies')}"
            if gid and any(status["configuration"] != num for status in told.values()):
                return f"group {gid} is not at configuration {num}: {_facts(told, 'configuration')}"
            if quiet and len({status["applied"] for status in told.values()}) != 1:
                return f"group {gid} is not level: {_facts(told, 'role', 'applied')}"
        return ""

    def differing(self) -> Iterator[str]:
        """What differs between the files of replicas at the same index; blocks for some tenths of a second."""
        for gid, members in self._fleet.groups.items():
            applied = self.statuses[members[0].name]["applied"]
            digests = {server.name: digest_at(server.directory, gid, applied) for server in members}
            if len(set(digests.values())) > 1:
                yield f"at index {applied} the files of group {gid} hold different states: {digests}"

    def _told(self, status: dict[str, Any], server: Server) -> None:
        self.statuses[server.name] = status
        if status["role"] == "leader":
            place = (server.gid, status["term"])
            other = self._led.setdefault(place, server.name)
            if other != server.name:
                self.wrong.add(f"one leader per term: {other} and {server.name} both led in term {status['term']}")

    def _silent(self, failure: Any, server: Server) -> None:
        self.statuses.pop(server.name, None)


def digest_at(directory: Path, gid: int, index: int) -> int:
    """The digest of the state that a replica's files hold at an index which it has applied.

    Raises:
        AssertionError: the files do not reach so far, or are beyond it.
    """
    for _ in range(READINGS_MAX):
        machine: Any = GroupMachine(gid) if gid else ControllerMachine()
        with closing(Snapshot(str(directory / DATA.file))) as snapshot:
            at, after = snapshot.index, None
            while rows := snapshot.rows(after, ROWS_CHUNK_BYTES):
                machine.load(rows)
                after = rows[-1].key
        with closing(opened(directory, LOG)) as log:
            found = log.execute("SELECT entry FROM entries WHERE idx > ? AND idx <= ? ORDER BY idx", (at, index))
            entries = [_ENTRIES.decode(entry) for (entry,) in found.fetchall()]
        # A checkpoint between the two readings may have cut the log behind the rows that were read.
        if at <= index and [entry.index for entry in entries] == list(range(at + 1, index + 1)):
            break
    else:
        raise AssertionError(f"{directory}: rows at {at}, entries {[entry.index for entry in entries]}, wanted {index}")
    for entry in entries:
        for command in entry.commands:
            machine.apply(entry.index, command)
    digest: int = machine.digest()
    return digest


def _facts(told: dict[str, dict[str, Any]], *names: str) -> str:
    return "; ".join(f"{name} " + " ".join(f"{fact} {status[fact]}" for fact in names) for name, status in told.items())
