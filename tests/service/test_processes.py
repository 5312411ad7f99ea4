"""Real twistd processes, seen from outside."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twisted_kv.admin.cluster import free_ports, twistd

pytestmark = pytest.mark.process

PATIENCE_SECONDS = 30.0


class Stage:
    """Starts twistd in a directory of its own; nothing that it started outlives the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*twistd(), "-n", "--pidfile=", *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def refused(self, *arguments: str) -> str:
        """The one line with which a start ends."""
        process = self.start(*arguments)
        _, told = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert told.count("\n") == 1, told
        return told.strip()

    def node(self, *arguments: str) -> tuple[subprocess.Popen[str], str]:
        """A kv-node on a free port, and its endpoint; it answers."""
        port = free_ports(1)[0]
        process = self.start("kv-node", "--data", "d", "--listen", f"tcp:{port}:interface=127.0.0.1", *arguments)
        endpoint = f"tcp:127.0.0.1:{port}"
        assert self.kv(endpoint, "query", "--timeout", "30")[0] == 0
        return process, endpoint

    def kv(self, endpoint: str, *arguments: str, feed: str | None = None) -> tuple[int, str, str]:
        """Status, output and errors of twisted-kv."""
        command = [sys.executable, "-m", "twisted_kv.admin", "-c", endpoint, *arguments]
        ended = subprocess.run(command, input=feed, capture_output=True, text=True, timeout=60, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()


CONTROLLER = ("kv-controller", "--node", "1", "--data", "d", "--peer", "1=tcp:127.0.0.1:1")
LOOPBACK = ("--listen", "tcp:0:interface=127.0.0.1")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((*CONTROLLER, "--listen", "tcp:0"), "--insecure"),
        ((*CONTROLLER, *LOOPBACK, "--consensus", "paxos"), "paxos"),
        ((*CONTROLLER, *LOOPBACK, "--peer", "2=nonsense"), "--peer"),
        (("kv-node", "--data", "d", "--config", "none.toml"), "none.toml"),
        (("kv-node", "--data", "/dev/null/d", *LOOPBACK), "/dev/null"),
        (("kv-group", *CONTROLLER[1:], *LOOPBACK, "--gid", "1"), "--controller is missing"),
    ],
    ids=["beyond loopback", "paxos", "endpoint", "config", "directory", "missing"],
)
def test_a_bad_start_is_one_line_and_status_1(stage: Stage, arguments: tuple[str, ...], line: str) -> None:
    """Contract §1: one clear line and a non-zero exit status."""
    told = stage.refused(*arguments)
    assert told.startswith(f"{arguments[0]}: ")
    assert line in told


def test_a_port_in_use_is_one_line(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        assert "cannot listen on" in stage.refused("kv-node", "--data", "d", "--listen", listen)
    assert not (stage.directory / "d").exists()


def test_a_daemon_tells_the_shell_that_waits(stage: Stage) -> None:
    """ecosystem §3: start errors come back through a pipe; nothing is opened before the fork."""
    (stage.directory / "d").write_text("not a directory")
    command = [*twistd(), "--pidfile=d.pid", "--logfile=d.log", "kv-node", "--data", "d", *LOOPBACK]
    ended = subprocess.run(command, cwd=stage.directory, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "StartFailed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (stage.directory / "d.pid").exists()


def test_the_life_of_a_node(stage: Stage) -> None:
    """Contract §1, §5.3: the same commands as a cluster; SIGKILL loses nothing; another port is announced."""
    process, endpoint = stage.node()
    assert stage.kv(endpoint, "put", "k", "v") == (0, "", "")
    second = stage.refused("kv-node", "--data", "d", *LOOPBACK)
    assert "in use" in second
    process.kill()
    process.communicate()

    process, endpoint = stage.node()
    assert stage.kv(endpoint, "get", "k", "--timeout", "30") == (0, "v\n", "")
    status, told, _ = stage.kv(endpoint, "query", "--json")
    configuration = json.loads(told)
    assert (status, configuration["num"], configuration["groups"]) == (0, 2, {"1": [endpoint]})

    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=10)
    assert time.monotonic() - began < 10
    assert process.returncode == -signal.SIGTERM
    assert told == ""


def test_a_script_that_imports_nothing_of_ours(stage: Stage) -> None:
    """Contract §4: plain Perspective Broker against any server; errors are pb.RemoteError with our names."""
    _, endpoint = stage.node()
    script = f"""
from twisted.internet import endpoints, reactor, task
from twisted.spread import pb

async def main(reactor):
    factory = pb.PBClientFactory()
    await endpoints.clientFromString(reactor, "{endpoint}").connect(factory)
    root = await factory.getRootObject()
    print(await root.callRemote("put", "k", "v"))
    print(await root.callRemote("append", "k", "w"))
    print(await root.callRemote("get", "k"))
    print(await root.callRemote("put_hash", "k", "x"))
    print(await root.callRemote("delete", "k"), await root.callRemote("delete", "k"))
    print(repr(await root.callRemote("get", "k")))
    print(sorted(await root.callRemote("query", -1)))
    print(sorted(await root.callRemote("status")))
    for call in (("get", 3), ("get",), ("move", 0, 99), ("move", 999, 1), ("join", {{1: ["tcp:x:1"]}})):
        try:
            await root.callRemote(*call)
        except pb.RemoteError as error:
            print(error.remoteType.decode().removeprefix("twisted_kv.errors."), str(error).rpartition("; ")[2])

task.react(lambda reactor: __import__("twisted.internet.defer").internet.defer.ensureDeferred(main(reactor)))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == [
        "None",
        "None",
        "vw",
        "vw",
        "True False",
        "''",
        "['groups', 'num', 'shards']",
        "['controller', 'group']",
        "WrongType final",
        "BadRequest final",
        "NoSuchGroup final",
        "NoSuchShard final",
        "GroupExists final",
    ]


def test_what_the_command_line_says(stage: Stage) -> None:
    """Contract §2: exit statuses and outputs."""
    _, endpoint = stage.node("--value-bytes-max", "1000")
    kv = stage.kv
    assert kv(endpoint, "get", "k") == (0, "\n", "")
    assert kv(endpoint, "get", "k", "--exists")[:2] == (1, "")
    assert kv(endpoint, "put", "k", "-", feed=" text \n") == (0, "", "")
    assert kv(endpoint, "get", "k") == (0, " text \n\n", "")
    assert kv(endpoint, "get", "k", "--json")[1] == '{"key": "k", "exists": true, "value": " text \\n"}\n'
    assert kv(endpoint, "puthash", "k", "x") == (0, " text \n\n", "")
    assert kv(endpoint, "delete", "k")[0] == 0
    assert kv(endpoint, "delete", "k")[0] == 1
    status, out, told = kv(endpoint, "put", "k", "v" * 1001)
    assert (status, out) == (1, "")
    assert told.startswith("twisted-kv: ValueTooLarge: ")
    assert told.count("\n") == 1
    assert kv(endpoint, "move", "0", "99")[0] == 1
    assert kv(endpoint, "leave", "99")[0] == 0
    assert kv(endpoint, "query", "-1")[0] == 0
    assert kv(endpoint, "query", "0")[1].startswith("configuration 0: 128 shards")
    assert kv(endpoint, "join", f"5={endpoint}", "--timeout", "1")[0] == 1
    assert kv("tcp:127.0.0.1:1", "get", "k", "--timeout", "0.5")[0] == 4


def test_load_dump_and_bench(stage: Stage) -> None:
    """Contract §2."""
    _, endpoint = stage.node()
    lines = "".join(json.dumps({"key": f"k{number}", "value": "é" * number}) + "\n" for number in range(500))
    lines += '{"key": "raw", "value_base64": "/wA="}\n'
    assert stage.kv(endpoint, "load", "-", feed=lines) == (0, "", "")
    status, out, _ = stage.kv(endpoint, "dump")
    assert status == 0
    assert sorted(map(_fields, out.splitlines())) == sorted(map(_fields, lines.splitlines()))
    status, out, _ = stage.kv(
        endpoint, "bench", "--seconds", "0.5", "--clients", "4", "--mix", "90/10", "--connections", "2", "--json"
    )
    found = json.loads(out)
    assert status == 0
    assert found["operations"] > 0
    assert found.keys() >= {"ops_per_second", "p50_ms", "p99_ms"}
    assert stage.kv(endpoint, "dump")[1].count("\n") == 501


def test_an_inspection_of_a_running_node(stage: Stage) -> None:
    """House: people look with inspect at a live replica."""
    process, endpoint = stage.node()
    assert stage.kv(endpoint, "put", "k", "v")[0] == 0
    status, out, _ = stage.kv(endpoint, "inspect", str(stage.directory / "d"), "--json")
    controller, group = map(json.loads, out.splitlines())
    assert status == 0
    assert controller["identity"]["kind"] == "controller"
    assert group["log"]["entries"] > 0
    assert process.poll() is None


def _fields(line: str) -> tuple[Any, ...]:
    return tuple(sorted(json.loads(line).items()))
