"""Real twistd processes for tests: a cluster on loopback, writers that remember what was acknowledged, and a judge."""

from __future__ import annotations

import functools
import os
import signal
import subprocess

import pytest_twisted
from twisted.internet.defer import CancelledError, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from twisted_kv import Clerk, ControllerClerk, KVError, OutcomeUnknown
from twisted_kv.admin.cluster import Child, Cluster, free_ports, twistd

TEST_SECONDS = 100.0
PATIENCE_SECONDS = 30.0
KEYS = ("red", "green", "blue")


SLOW_DISK = """
import os, time

def fsync(descriptor, real=os.fsync):
    time.sleep(0.003)
    real(descriptor)

os.fsync = fsync
"""
"""A sitecustomize by which servers find the disk so slow that they write in threads of their own."""


def process_test(test):
    """An async test that cannot hang for ever (pytest-twisted has no timeout of its own)."""

    @pytest_twisted.ensureDeferred
    @functools.wraps(test)
    async def limited(*args, **kwargs):
        from twisted.internet import reactor

        running = ensureDeferred(test(*args, **kwargs))
        running.addTimeout(TEST_SECONDS, reactor)
        return await running

    return limited


class Scene:
    """A cluster of processes, with a Clerk and an administrator; stopped whatever happens."""

    def __init__(self, path, controllers=1, members=3, gids=(100,)):
        from twisted.internet import reactor

        self.reactor = reactor
        self.cluster = Cluster(reactor, path)
        self.cluster.start_controllers(controllers)
        for gid in gids:
            self.cluster.start_group(gid, members)
        self.meet_clients()

    def meet_clients(self):
        self.writers = []
        self.clerk = Clerk(self.cluster.controller_endpoints, self.reactor)
        self.admin = ControllerClerk(self.cluster.controller_endpoints, self.reactor)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        for writer in self.writers:
            writer.stopped = True
        for client in (self.clerk, self.admin):
            await client.close()
        # A stopped process does not hear SIGTERM.
        for child in self.everybody():
            child.kill(signal.SIGCONT)
        await self.cluster.stop()

    async def join(self, *gids):
        await self.admin.join({gid: self.cluster.endpoints(gid) for gid in gids}, timeout=30)

    def everybody(self):
        return [child for group in (self.cluster.controllers, *self.cluster.groups.values()) for child in group]

    async def kill(self, *children, signum=signal.SIGKILL):
        """Signal these processes and wait until they have ended."""
        for child in children:
            child.kill(signum)
        await gatherResults([child.gone() for child in children])

    async def ended(self, child):
        """Wait until a process has ended by itself."""
        await child.gone().addTimeout(PATIENCE_SECONDS, self.reactor)

    def revive(self, *children):
        for child in children:
            self.cluster.spawn(child)

    async def leader(self, gid=100):
        """The member that says it leads, asked as a plain script would."""
        found = []

        async def somebody_leads():
            for child in self.cluster.groups[gid]:
                status = await self.ask(child, "status")
                if status is not None and status["role"] == "leader":
                    found.append(child)
                    return True
            return False

        await self.until(somebody_leads)
        return found[0]

    async def ask(self, child, name, *args):
        """One call of a plain Perspective Broker script; None if nobody answers."""
        try:
            [answer] = await self.call(child, (name, *args))
        except CancelledError:
            raise
        except Exception:
            return None
        return None if isinstance(answer, Exception) else answer

    async def call(self, child, *calls):
        """Calls of a plain Perspective Broker script over one connection: the answers, or the errors."""
        from twisted.internet.endpoints import clientFromString
        from twisted.spread import pb

        factory = pb.PBClientFactory()
        port = await clientFromString(self.reactor, child.endpoint).connect(factory)
        answers = []
        try:
            root = await factory.getRootObject().addTimeout(3, self.reactor)
            for name, *args in calls:
                try:
                    answers.append(await root.callRemote(name, *args).addTimeout(3, self.reactor))
                except CancelledError:
                    raise
                except Exception as error:
                    answers.append(error)
        finally:
            port.transport.abortConnection()
        return answers

    async def pause(self, seconds):
        await deferLater(self.reactor, seconds)

    async def until(self, holds, *args):
        """Wait until ``await holds(*args)`` does."""
        deadline = self.reactor.seconds() + PATIENCE_SECONDS
        while not await holds(*args):
            assert self.reactor.seconds() < deadline, f"waited in vain: {holds.__name__}"
            await self.pause(0.05)

    def told(self, child):
        """What this process has logged, in all its lives."""
        return (self.cluster.directory / f"{child.name}.log").read_text()

    async def in_thread(self, work, *args):
        return await deferToThread(work, *args)


class NodeScene(Scene):
    """One kv-node in place of a cluster."""

    def __init__(self, path, *arguments):
        from twisted.internet import reactor

        self.reactor = reactor
        self.cluster = Cluster(reactor, path)
        [port] = free_ports(1)
        listen = f"tcp:{port}:interface=127.0.0.1"
        command = ["kv-node", "--data", str(path / "node"), "--listen", listen, *arguments]
        self.node = Child("node", f"tcp:127.0.0.1:{port}", command)
        self.cluster.controllers = [self.node]
        self.cluster.spawn(self.node)
        self.meet_clients()


class Writer:
    """Appends numbered tokens to a key, one at a time, and remembers what became of each."""

    def __init__(self, clerk, key):
        self.clerk = clerk
        self.key = key
        self.acknowledged = []
        self.unknown = []
        self.stopped = False

    async def run(self):
        count = 0
        while not self.stopped:
            count += 1
            token = f"{self.key}.{count};"
            try:
                await self.clerk.append(self.key, token, timeout=20)
            except OutcomeUnknown:
                self.unknown.append(token)
            except KVError as error:
                assert error.definite
            else:
                self.acknowledged.append(token)

    async def judge(self):
        """Every acknowledged token once, in order; what else is there has an unknown outcome, and stands once."""
        found = [token + ";" for token in (await self.clerk.get(self.key, timeout=30)).split(";") if token]
        assert len(found) == len(set(found)), "a token stands twice"
        assert [token for token in found if token not in self.unknown] == self.acknowledged


async def writing(scene, *keys):
    """Start a writer for each key."""
    writers = [Writer(scene.clerk, key) for key in keys or KEYS]
    scene.writers += writers
    running = gatherResults([ensureDeferred(writer.run()) for writer in writers], consumeErrors=True)
    return writers, running


async def stop(writers, running):
    """Stop the writers and judge what they left."""
    for writer in writers:
        writer.stopped = True
    await running
    for writer in writers:
        await writer.judge()
    assert acknowledged(writers) > 20, "too little was written to prove anything"


def acknowledged(writers):
    """How many writes were acknowledged."""
    return sum(len(writer.acknowledged) for writer in writers)


def refused(directory, *arguments):
    """Start a server that cannot start: the one line with which it ends."""
    command = [*twistd(), "--nodaemon", "--pidfile=", *arguments]
    ended = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert ended.returncode == 1, (arguments, ended.returncode, ended.stderr)
    assert "Traceback" not in ended.stdout + ended.stderr
    [line] = ended.stderr.splitlines()
    return line


def customized(monkeypatch, directory, source):
    """Have every process that is started from now on run this first."""
    (directory / "sitecustomize.py").write_text(source)
    paths = [str(directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
