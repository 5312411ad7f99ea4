"""The demo: a real cluster on loopback and a guided tour of what it promises.

Decides the stations and what counts as success: every value that was acknowledged is read back. Real text is loaded,
what ships with Python itself; nothing is fetched. Knows the cluster by its command lines and Clerks, like any user.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater

from twisted_kv.admin.asking import ask_all, part
from twisted_kv.admin.cluster import Child, Cluster
from twisted_kv.admin.running import Refusal, together
from twisted_kv.errors import KVError
from twisted_kv.machines.configuration import shard_of
from twisted_kv.transport.network import PBNetwork

GROUP_SIZE = 3
PARAGRAPH_CHARACTERS_MIN = 200
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.1
TEXTS_AT_ONCE = 256
MOVING_KEYS = 1000


async def demo(
    reactor: Any,
    make_clerk: Callable[[list[str]], Any],
    make_admin: Callable[[list[str]], Any],
    say: Callable[[str], None],
    bar: Callable[[str, int], Any],
    keep: bool,
) -> None:
    """Walk the tour in a new directory; stop every process and remove it all at the end, however that comes.

    Args:
        keep: leave the cluster up after the tour until this is cancelled.
    Raises:
        Refusal: a value was not read back, or the cluster did not do what it should.
    """
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="twisted-kv-demo-"))
    cluster = Cluster(reactor, directory)
    network = PBNetwork(reactor)
    of_use = True
    try:
        tour = Tour(reactor, cluster, network, make_clerk, make_admin, say, bar)
        try:
            await tour.walk(texts_of_python())
        except KVError as error:
            raise Refusal(f"{type(error).__name__}: {error.text}; the logs are in {directory}") from error
        of_use = False
        say(f"every value was read back; the tour took {time.monotonic() - began:.1f} s")
        if keep:
            say("the cluster stays up until Ctrl-C; in another terminal:")
            say(f"    export TWISTED_KV_CONTROLLERS={','.join(cluster.controller_endpoints)}")
            say("    twisted-kv status")
            await Deferred()
    except CancelledError:
        of_use = False
        raise
    finally:
        await network.close()
        await cluster.stop()
        # The logs of a tour that failed are worth keeping; not those of one that was broken off.
        if not of_use:
            shutil.rmtree(directory, ignore_errors=True)


def texts_of_python() -> dict[str, str]:
    """Paragraphs of the reference that ``help()`` shows, by topic and number: several hundred."""
    from pydoc_data.topics import topics

    return {
        f"python/{topic}/{number}": paragraph
        for topic, text in sorted(topics.items())
        for number, paragraph in enumerate(text.split("\n\n"))
        if len(paragraph) >= PARAGRAPH_CHARACTERS_MIN
    }


class Tour:
    """One run of the demo.

    Args:
        network: asks servers for their status.
        make_clerk, make_admin: Clerks of the controllers at these endpoints.
        say: writes a line.
        bar: a context that shows progress: (title, total).
    """

    def __init__(
        self,
        reactor: Any,
        cluster: Cluster,
        network: Any,
        make_clerk: Callable[[list[str]], Any],
        make_admin: Callable[[list[str]], Any],
        say: Callable[[str], None],
        bar: Callable[[str, int], Any],
    ) -> None:
        self._reactor = reactor
        self._cluster = cluster
        self._network = network
        self._say = say
        self._bar = bar
        self._make_clerk = make_clerk
        self._make_admin = make_admin
        self._written: dict[str, str] = {}
        self._slowest = 0.0

    async def walk(self, texts: Mapping[str, str]) -> None:
        """All stations.

        Raises:
            Refusal: a value was not read back, or the cluster did not do what it should.
        """
        await self._station("starting 3 controllers and 2 groups of 3, each its own twistd process", self._start())
        clerk = self._make_clerk(self._cluster.controller_endpoints)
        admin = self._make_admin(self._cluster.controller_endpoints)
        try:
            await self._station("joining groups 100 and 101", self._join(admin, 100, 101))
            await self._station(f"loading {len(texts)} texts that ship with Python", self._load(clerk, texts))
            await self._station("reading all of them back", self._read_back(clerk))
            await self._station("killing the leader of group 100 (SIGKILL)", self._kill_leader(clerk))
            await self._station("starting group 102, joining it, writing all the while", self._grow(clerk, admin))
            await self._station("group 101 leaves, writing all the while", self._shrink(clerk, admin))
            await self._station("reading everything back once more", self._read_back(clerk))
        finally:
            await clerk.close()
            await admin.close()

    async def _station(self, title: str, work: Any) -> None:
        self._say(f"{title} …")
        began = time.monotonic()
        found = await work
        self._say(f"    {found} ({time.monotonic() - began:.2f} s)")

    # ── the stations ───────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> str:
        self._cluster.start_controllers(GROUP_SIZE)
        self._cluster.start_group(100, GROUP_SIZE)
        self._cluster.start_group(101, GROUP_SIZE)
        leader, _ = await self._leader(self._cluster.controllers, "controller")
        await self._leader(self._cluster.groups[100], "group")
        await self._leader(self._cluster.groups[101], "group")
        return f"9 processes are up; {leader.name} leads the controllers"

    async def _join(self, admin: Any, *gids: int) -> str:
        configuration = await admin.join({gid: self._cluster.endpoints(gid) for gid in gids})
        await self._settled(configuration)
        counts = ", ".join(f"{configuration.shards.count(gid)} to group {gid}" for gid in configuration.groups)
        return f"configuration {configuration.num}: {len(configuration.shards)} shards, {counts}"

    async def _load(self, clerk: Any, texts: Mapping[str, str]) -> str:
        items = list(texts.items())
        with self._bar("loading", len(items)) as told:
            for start in range(0, len(items), TEXTS_AT_ONCE):
                chunk = items[start : start + TEXTS_AT_ONCE]
                await together([clerk.put(key, text) for key, text in chunk])
                self._written.update(chunk)
                told(start + len(chunk))
        return f"{sum(len(text) for text in texts.values()) / 1e6:.1f} million characters"

    async def _read_back(self, clerk: Any) -> str:
        keys = list(self._written)
        wrong = []
        with self._bar("reading", len(keys)) as told:
            for start in range(0, len(keys), TEXTS_AT_ONCE):
                chunk = keys[start : start + TEXTS_AT_ONCE]
                values = await together([clerk.get(key) for key in chunk])
                wrong += [key for key, value in zip(chunk, values, strict=True) if value != self._written[key]]
                told(start + len(chunk))
        if wrong:
            raise Refusal(f"{len(wrong)} of {len(keys)} values are not what was written, the first is {wrong[0]!r}")
        return f"all {len(keys)} values are what was written"

    async def _kill_leader(self, clerk: Any) -> str:
        members = self._cluster.groups[100]
        leader, _ = await self._leader(members, "group")
        shards = (await clerk.configuration()).shards
        keys = (f"tour/killed/{number}" for number in count())
        key = next(key for key in keys if shards[shard_of(key, len(shards))] == 100)
        await self._put(clerk, key, "before")
        leader.kill(signal.SIGKILL)
        began = time.monotonic()
        await self._put(clerk, key, "after")
        pause = time.monotonic() - began
        await leader.gone()
        heir, _ = await self._leader([child for child in members if child is not leader], "group")
        self._cluster.spawn(leader)
        return f"{leader.name} is dead; {heir.name} leads; the next write waited {pause:.2f} s"

    async def _grow(self, clerk: Any, admin: Any) -> str:
        self._cluster.start_group(102, GROUP_SIZE)
        await self._leader(self._cluster.groups[102], "group")
        before = (await clerk.configuration()).shards
        return await self._moved(clerk, before, admin.join({102: self._cluster.endpoints(102)}))

    async def _shrink(self, clerk: Any, admin: Any) -> str:
        before = (await clerk.configuration()).shards
        told = await self._moved(clerk, before, admin.leave([101]))
        await self._until("group 101 holds nothing more", self._holds_nothing, 101)
        return f"{told}; group 101 holds nothing more"

    async def _moved(self, clerk: Any, before: tuple[int, ...], change: Deferred[Any]) -> str:
        """Wait until a change of configuration is carried out, writing meanwhile."""
        self._slowest = 0.0
        writing = [True]
        writer = ensureDeferred(self._write_while(clerk, writing))
        try:
            configuration = await change
            await self._settled(configuration)
        finally:
            writing[0] = False
            written = await writer
        moved = sum(old != new for old, new in zip(before, configuration.shards, strict=True))
        return f"{moved} shards moved; {written} writes meanwhile, the slowest took {self._slowest:.2f} s"

    async def _write_while(self, clerk: Any, writing: list[bool]) -> int:
        for number in count():
            if not writing[0]:
                break
            await self._put(clerk, f"tour/moving/{number % MOVING_KEYS}", f"written as number {number}")
        return number

    async def _put(self, clerk: Any, key: str, value: str) -> None:
        began = time.monotonic()
        await clerk.put(key, value)
        self._slowest = max(self._slowest, time.monotonic() - began)
        self._written[key] = value

    # ── looking ────────────────────────────────────────────────────────────────────────────────────

    async def _leader(self, children: list[Child], kind: str) -> tuple[Child, Mapping[str, Any]]:
        """Who leads, and what it says of itself; waits until somebody does."""
        found: list[tuple[Child, Mapping[str, Any]]] = []

        async def look() -> bool:
            for child, status in await self._statuses(children, kind):
                if status["role"] == "leader":
                    found.append((child, status))
            return bool(found)

        await self._until(f"{children[0].name.rsplit('-', 1)[0]} has a leader", look)
        # Of two that believe to lead, the one of the higher term does.
        return max(found, key=lambda each: int(each[1]["term"]))

    async def _settled(self, configuration: Any) -> None:
        """Wait until the groups of a configuration serve its shards and move none any more."""

        async def look() -> bool:
            for gid in configuration.groups:
                statuses = [status for _, status in await self._statuses(self._cluster.groups[gid], "group")]
                leading = [status for status in statuses if status["role"] == "leader"]
                owned = configuration.shards.count(gid)
                if not any(status["shards"] == owned and not status["migrations"] for status in leading):
                    return False
            return True

        await self._until(f"configuration {configuration.num} is carried out", look)

    async def _holds_nothing(self, gid: int) -> bool:
        statuses = [status for _, status in await self._statuses(self._cluster.groups[gid], "group")]
        return any(
            status["role"] == "leader" and not (status["shards"] or status["migrations"] or status["keys"])
            for status in statuses
        )

    async def _statuses(self, children: list[Child], kind: str) -> list[tuple[Child, Mapping[str, Any]]]:
        answers = await ask_all(self._network, [child.endpoint for child in children if child.running], "status")
        return [
            (child, part(answers[child.endpoint], kind))
            for child in children
            if isinstance(answers.get(child.endpoint), dict)
        ]

    async def _until(self, what: str, look: Callable[..., Any], *args: Any) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not await look(*args):
            if time.monotonic() > deadline:
                raise Refusal(f"waited {PATIENCE_SECONDS:.0f} s in vain until {what}; see {self._cluster.directory}")
            await deferLater(self._reactor, LOOK_SECONDS)
