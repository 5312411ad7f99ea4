"""Disks that fail under real processes, and syncs that are seen (hazards 16, 27, 28; contract §5.3).

A small library in C stands between the servers and libc (shim/disk_shim.c), so these tests need a C compiler and are
run by a command of their own: ``python -m pytest -m shim``.
"""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from fire import SLOW_DISK, NodeScene, Scene, acknowledged, customized, process_test, stop, writing

from twisted_kv import KVError

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.shim]

SOURCE = Path(__file__).parent / "shim" / "disk_shim.c"
LOG = "log.sqlite3-wal"


class Shim:
    """What the children's disks have done, and what they are to do. A new process of a child has a sound disk."""

    def __init__(self, directory):
        self.directory = directory

    def syncs(self, child):
        """(begin, end) of every sync of its log file, in nanoseconds of the monotonic clock."""
        lines = self._file(child, "syncs").read_text().splitlines()
        facts = [line.split(maxsplit=2) for line in lines]
        return [(int(begin), int(end)) for begin, end, file in facts if file == LOG]

    def fail_syncs(self, child):
        self._file(child, "eio").touch()

    def hang_syncs(self, child):
        self._file(child, "hung").touch()

    def fill(self, child):
        self._file(child, "full").touch()

    def make_room(self, child):
        self._file(child, "full").unlink()

    def _file(self, child, what):
        return self.directory / f"{child.transport.pid}.{what}"


@pytest.fixture
def shim(tmp_path, monkeypatch):
    compiler = shutil.which("cc")
    assert compiler, "these tests need a C compiler, cc"
    library = tmp_path / "disk_shim.so"
    command = [compiler, "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    directory = tmp_path / "shim"
    directory.mkdir()
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("DISK_SHIM", str(directory))
    return Shim(directory)


@process_test
async def test_hazard_16_a_majority_has_synced_between_request_and_answer(tmp_path, shim):
    """Contract §5.3: of every single put, two of three members synced their log after it was sent, before its answer.

    Gets sync nothing: it is the puts that are seen. Fails with ``synchronous=NORMAL``, and with a leader that counts
    members before they have saved.
    """
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        await scene.clerk.put("k", "session and connections are there now", timeout=20)

        async def windows(count, call):
            spans = []
            for number in range(count):
                sent = time.monotonic_ns()
                await call(number)
                spans.append((sent, time.monotonic_ns()))
                await scene.pause(0.02)  # the third member is done, too: its sync belongs to no later put
            return spans

        puts = await windows(50, lambda number: scene.clerk.put("k", str(number)))
        gets = await windows(20, lambda _: scene.clerk.get("k"))
        members = [shim.syncs(child) for child in scene.cluster.groups[100]]

    def synced(sent, answered):
        return sum(any(sent <= begin and end <= answered for begin, end in syncs) for syncs in members)

    counts = [synced(*span) for span in puts]
    assert min(counts) >= 2, counts
    assert [synced(*span) for span in gets] == [0] * len(gets)


@pytest.mark.parametrize("speed", ["fast", "slow"])
@process_test
async def test_hazard_27_what_could_not_be_synced_is_not_acknowledged(tmp_path, monkeypatch, shim, speed):
    """A store of one process: its sync fails in mid-put. It ends by itself, and nobody was told that it was done.

    On a slow disk it is a thread that fails, and that has to end with the process.
    """
    if speed == "slow":
        customized(monkeypatch, tmp_path, SLOW_DISK)
    async with NodeScene(tmp_path) as scene:
        await scene.clerk.put("k", "old", timeout=20)
        shim.fail_syncs(scene.node)
        with pytest.raises(KVError):
            await scene.clerk.put("k", "new", timeout=3)
        await scene.ended(scene.node)
        assert scene.node.status == 1
        assert "\nkv-node: disk I/O error\n" in scene.told(scene.node)
        scene.revive(scene.node)
        assert await scene.clerk.get("k", timeout=20) in ("old", "new")


@process_test
async def test_hazard_27_a_leader_whose_sync_fails_ends_and_the_others_go_on(tmp_path, shim):
    """It stops by itself with a status; nothing acknowledged is lost; started again it is a member as before."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        await scene.pause(1.0)
        leader = await scene.leader()
        shim.fail_syncs(leader)
        await scene.ended(leader)
        assert leader.status == 1
        before = acknowledged(writers)
        assert await scene.leader() is not leader
        scene.revive(leader)
        await scene.pause(2.0)
        assert acknowledged(writers) > before
        await stop(writers, running)
        assert (await scene.ask(leader, "status"))["voter"] is True


@process_test
async def test_hazard_07_a_leader_whose_disk_hangs_is_replaced_and_can_be_stopped(tmp_path, monkeypatch, shim):
    """Its sync does not come back: another leads, and SIGTERM ends it in time (contract §1), the thread in the sync or
    not. What it has acknowledged is there when it comes back.

    Fails if the process waits for its disk's thread, or if the watchdog counts only what was saved.
    """
    customized(monkeypatch, tmp_path, SLOW_DISK)
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        await scene.pause(1.0)
        hung = await scene.leader()
        shim.hang_syncs(hung)

        async def another_leads():
            return (await scene.leader()) is not hung

        await scene.until(another_leads)
        before = acknowledged(writers)
        await scene.pause(1.0)
        assert acknowledged(writers) > before
        assert (await scene.ask(hung, "status"))["role"] != "leader"

        hung.transport.signalProcess("TERM")
        await scene.ended(hung)
        assert "The stop was not clean" in scene.told(hung)
        scene.revive(hung)
        await scene.pause(1.0)
        await stop(writers, running)


@process_test
async def test_hazard_28_a_full_disk_neither_leads_nor_votes_until_there_is_room(tmp_path, shim):
    """The leader's disk is full: another leads. One more member down: no majority. With room again: all as before."""
    async with Scene(tmp_path) as scene:
        await scene.join(100)
        writers, running = await writing(scene)
        await scene.pause(1.0)
        full = await scene.leader()
        shim.fill(full)

        async def keeps_still():
            return "The disk is full" in scene.told(full)

        async def another_leads():
            return (await scene.leader()) is not full

        await scene.until(keeps_still)
        await scene.until(another_leads)
        before = acknowledged(writers)
        await scene.pause(1.0)
        assert acknowledged(writers) > before
        assert (await scene.ask(full, "status"))["role"] != "leader"

        leader = await scene.leader()
        await scene.kill(leader)
        await scene.pause(0.5)
        before = acknowledged(writers)
        for _ in range(10):
            roles = [(await scene.ask(child, "status") or {}).get("role") for child in scene.cluster.groups[100]]
            assert "leader" not in roles, "the member with a full disk has voted"
            await scene.pause(0.2)
        assert acknowledged(writers) == before

        shim.make_room(full)
        await scene.leader()
        scene.revive(leader)
        await scene.pause(1.0)
        await stop(writers, running)
        assert "Saves finish again" in scene.told(full)
        assert full.status is None, "it needed no restart"

        async def caught_up():
            status = [await scene.ask(child, "status") for child in scene.cluster.groups[100]]
            return all(status) and len({each["applied"] for each in status}) == 1

        await scene.until(caught_up)
