"""The servers of a chaos run: real twistd processes whose every link is a proxy, and what can be done to each.

Decides command lines, ports and how a process ends. A server binds a port that the system chooses anew at each start;
only the proxies know it, everybody else dials them. Each process is known by its id and signalled by that alone; it
dies with the harness, however that ends. Knows nothing of why something is done to a server.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from chaos_proxy import Mesh
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater

from twisted_kv.admin.cluster import Child, twistd

CLIENTS: Final = "clients"
HERE: Final = Path(__file__).resolve().parent
SHARDS: Final = 16
LOG_BYTES_MAX: Final = 100_000
"""Small: checkpoints, cuts and snapshots all the time."""
SMALL_DISK_MIB: Final = 32
START_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.05
_STARTING_ON = re.compile(rb"starting on (\d+)\n")


@dataclass
class Life:
    """One process of a server.

    Attributes:
        begin: where its lines begin in the log of the server.
        asked: the signal that was to end it; None: it was to live.
        status: how it ended: its exit status, or minus the signal; None: it has not.
        faults: names of what its disk suffered.
    """

    begin: int
    asked: int | None = None
    status: int | None = None
    faults: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Server(Child):
    """A Child whose port, control directory and lives are remembered."""

    gid: int = 0
    node: int = 0
    directory: Path = Path()
    control: Path = Path()
    port: int | None = None
    lives: list[Life] = field(default_factory=list)
    paused: bool = False
    small_disk: bool = False
    wiped: bool = False
    filler: Path | None = None

    @property
    def life(self) -> Life:
        """The present one, or the last."""
        return self.lives[-1]

    @property
    def log(self) -> Path:
        """What it has logged, in all its lives."""
        return self.control.parent.parent / f"{self.name}.log"

    def processEnded(self, reason: Any) -> None:
        self.port = None
        self.paused = False
        super().processEnded(reason)
        self.life.status = self.status

    def end(self, signum: int) -> None:
        """Ask it to end, or end it."""
        if self.running:
            self.life.asked = signum
            self.kill(signum)

    def pause(self) -> None:
        """SIGSTOP."""
        self.kill(signal.SIGSTOP)
        self.paused = self.running

    def go_on(self) -> None:
        """SIGCONT."""
        self.kill(signal.SIGCONT)
        self.paused = False

    def suffer(self, fault: str, text: str = "") -> None:
        """Let its disk or clock have this fault (processes/shim/disk_shim.c, child/sitecustomize.py)."""
        self.life.faults.add(fault)
        unfinished = self.control / f"{fault}.new"
        unfinished.write_text(text)
        os.replace(unfinished, self.control / fault)

    def mend(self, *faults: str) -> None:
        """These are over; none named: all of the disk."""
        for fault in faults or ("eio", "full", "slow", "hung"):
            (self.control / fault).unlink(missing_ok=True)
        if self.filler is not None and (not faults or "full" in faults):
            self.filler.unlink(missing_ok=True)

    def fill(self) -> None:
        """Its disk is full: a neighbour takes all room of a small disk; elsewhere the shim says so."""
        if self.filler is None:
            self.suffer("full")
            return
        self.life.faults.add("full")
        with open(self.filler, "ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                # Only ENOSPC ends it.
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    @property
    def is_full(self) -> bool:
        """Whether its disk is full now."""
        return (self.control / "full").exists() or (self.filler is not None and self.filler.exists())

    def wipe(self) -> None:
        """It has lost its disk; to be done while it is dead."""
        assert not self.running
        self.wiped = True
        for each in self.directory.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink()


class Fleet:
    """All servers of one cluster and the mesh between them.

    Args:
        directory: theirs; data, control files and logs are made inside.
        gids: of the groups; nobody has joined them yet.
        shim: the compiled library to preload; None: there is no compiler.
        plant: a name of child/plants.py.
        mounts: whether a tmpfs may be mounted (``private_mounts``).
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        random: Random,
        gids: tuple[int, ...],
        shim: Path | None,
        plant: str | None,
        mounts: bool,
    ) -> None:
        self._reactor = reactor
        self._random = random
        self._shim = shim
        self._plant = plant
        self.directory = directory
        self.mesh = Mesh(reactor, random, lambda name: self.servers[name].port)
        self.servers: dict[str, Server] = {}
        self.groups: dict[int, list[Server]] = {}
        for gid in (0, *gids):
            self.groups[gid] = list(self._members(gid))
        for members in self.groups.values():
            if mounts:
                self._give_small_disk(members[int(random.random() * 3)])
            for server in members:
                server.arguments = self._arguments(server)

    @property
    def can_fail_disks(self) -> bool:
        """Whether every disk can be made to fail."""
        return self._shim is not None

    def announced(self, gid: int) -> list[str]:
        """What clients dial to reach a group; 0: the controllers."""
        return [server.endpoint for server in self.groups[gid]]

    def __iter__(self) -> Iterator[Server]:
        return iter(self.servers.values())

    def spawn(self, server: Server) -> None:
        """Start a server, or start it again; the mesh learns its port when it listens."""
        if server.running:
            return
        server.mend("eio", "slow", "hung")
        begin = server.log.stat().st_size if server.log.exists() else 0
        server.lives.append(Life(begin, faults={"full"} if server.is_full else set()))
        if self._random.random() < 0.3:
            # Slow enough while it starts, it writes in a thread for the rest of its life (storage/disk.py).
            server.suffer("slow", "4")
        command = [*twistd(), "--nodaemon", "--pidfile=", *server.arguments]
        environment = {
            **os.environ,
            "CHAOS_CONTROL": str(server.control),
            "DISK_SHIM_ALL": str(server.control),
            "CHAOS_PARENT": str(os.getpid()),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(HERE / "child"), os.environ.get("PYTHONPATH")])),
        }
        if self._shim is not None:
            environment["LD_PRELOAD"] = str(self._shim)
        if self._plant is not None:
            environment["CHAOS_PLANT"] = self._plant
        with open(server.log, "ab") as log, open(os.devnull, "rb") as nothing:
            server.running = True
            fds = {0: nothing.fileno(), 1: log.fileno(), 2: log.fileno()}
            self._reactor.spawnProcess(server, command[0], command, env=environment, childFDs=fds)
        self._look_for_port(server, server.life)

    async def start(self) -> None:
        """Start everybody; fires when all listen.

        Raises:
            TimeoutError: somebody does not.
        """
        for server in self:
            self.spawn(server)
        deadline = self._reactor.seconds() + START_SECONDS
        while not all(server.port for server in self):
            if self._reactor.seconds() > deadline:
                raise TimeoutError(f"not started: {[server.name for server in self if not server.port]}")
            await deferLater(self._reactor, LOOK_SECONDS)

    async def stop(self) -> None:
        """SIGKILL for everybody, and no link left."""
        for server in self:
            server.end(signal.SIGKILL)
        await DeferredList([server.gone() for server in self])
        await self.mesh.close()
        for server in self:
            if server.small_disk:
                _libc().umount2(os.fsencode(server.directory.parent), _MNT_DETACH)

    def _members(self, gid: int) -> Iterator[Server]:
        for node in (1, 2, 3):
            name = f"{gid or 'controller'}-{node}"
            control = self.directory / "control" / name
            control.mkdir(parents=True)
            directory = self.directory / "disks" / name / "data"
            directory.parent.mkdir(parents=True)
            server = Server(name, self.mesh.endpoint(CLIENTS, name), (), gid=gid, node=node)
            server.directory, server.control = directory, control
            self.servers[name] = server
            yield server

    def _arguments(self, server: Server) -> list[str]:
        service = "kv-group" if server.gid else "kv-controller"
        arguments = [service, "--node", str(server.node), "--data", str(server.directory)]
        arguments += ["--listen", "tcp:0:interface=127.0.0.1", "--log-bytes-max", str(LOG_BYTES_MAX)]
        for peer in self.groups[server.gid]:
            arguments += ["--peer", f"{peer.node}={self.mesh.endpoint(server.name, peer.name)}"]
        if server.gid:
            arguments += ["--gid", str(server.gid)]
            for controller in self.groups[0]:
                arguments += ["--controller", self.mesh.endpoint(server.name, controller.name)]
        else:
            arguments += ["--shards", str(SHARDS)]
        return arguments

    def _give_small_disk(self, server: Server) -> None:
        target = os.fsencode(server.directory.parent)
        if _libc().mount(b"tmpfs", target, b"tmpfs", 0, f"size={SMALL_DISK_MIB}m".encode()) == 0:
            server.small_disk = True
            server.filler = server.directory.parent / "filler"

    def _look_for_port(self, server: Server, life: Life) -> None:
        if not server.running or server.life is not life:
            return
        with open(server.log, "rb") as log:
            log.seek(life.begin)
            found = _STARTING_ON.search(log.read())
        if found:
            server.port = int(found[1])
            server.mend("slow")
        else:
            self._reactor.callLater(LOOK_SECONDS, self._look_for_port, server, life)


_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUSER: Final = 0x10000000
_MS_REC_PRIVATE: Final = 0x4000 | 0x40000
_MNT_DETACH: Final = 2


def private_mounts() -> bool:
    """Give this process mounts of its own, which end with it; to be called before it has threads.

    Returns:
        whether it may mount now: as root, or else in a user namespace where the kernel allows that.
    """
    try:
        libc = _libc()
        user, group = os.getuid(), os.getgid()
        if user == 0:
            if libc.unshare(_CLONE_NEWNS) != 0:
                return False
        else:
            if libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
                return False
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {user} 1")
            Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        return bool(libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0)
    except (OSError, AttributeError):
        return False


def compiled_shim(directory: Path) -> Path | None:
    """The disk shim, compiled into a directory; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = directory / "disk_shim.so"
    source = HERE.parent / "processes" / "shim" / "disk_shim.c"
    command = [compiler, "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def new_directory() -> Path:
    """Where a cluster lives; it is removed unless it is evidence."""
    return Path(tempfile.mkdtemp(prefix="twisted-kv-chaos-"))


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
