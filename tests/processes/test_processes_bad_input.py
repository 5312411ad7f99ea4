"""Bad input (contract §1, §6; hazards §0.4, S1-S5, S13): one clear line for operators, nothing at all for strangers."""

import json
import socket
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest
from fire import SLOW_DISK, NodeScene, Writer, customized, process_test, refused
from twisted.internet.defer import ensureDeferred
from twisted.spread import banana, pb

from twisted_kv.codec import FORMAT_VERSION, Codec
from twisted_kv.machines.commands import (
    Administer,
    Claim,
    Drop,
    Enroll,
    Found,
    Freeze,
    Install,
    Join,
    Leave,
    Move,
    Open,
    Operation,
    PullRows,
    QueryConfiguration,
    Read,
    Readdress,
    Scan,
    Write,
)
from twisted_kv.machines.rows import Cursor, Row, RowKey
from twisted_kv.transport import wire
from twisted_kv.transport.wire import Hello, RowsRequest, Step, Who

pytestmark = [pytest.mark.process, pytest.mark.slow]

MIB = 1 << 20

# ── what operators type ────────────────────────────────────────────────────────────────────────────

LISTEN = ["--listen", "tcp:0:interface=127.0.0.1"]
PEERS = ["--node", "1", "--peer", "1=tcp:127.0.0.1:1", "--peer", "2=tcp:127.0.0.1:2"]
SOUND = {
    "kv-node": ["--data", "d", *LISTEN],
    "kv-controller": ["--data", "d", *LISTEN, *PEERS],
    "kv-group": ["--data", "d", *LISTEN, *PEERS, "--gid", "1", "--controller", "tcp:127.0.0.1:3"],
}
# Behind a sound command line, so that this is all that is wrong; and what the line has to say.
BAD = {
    ("--nonsense",): "--nonsense",
    ("--nonsense", "3"): "--nonsense",
    ("stray",): "arguments",
    ("--data", ""): "--data",
    ("--data", "/proc/nowhere"): "/proc/nowhere",
    ("--listen", "nonsense"): "nonsense",
    ("--listen", "tcp:port"): "tcp:port",
    ("--listen", "tcp:0"): "--insecure",
    ("--listen", "tcp:0:interface=0.0.0.0"): "--insecure",
    ("--listen", "tcp:0:interface=192.0.2.1", "--insecure"): "192.0.2.1",
    ("--consensus", "paxos"): "paxos",
    ("--consensus", "votes"): "votes",
    ("--log-bytes-max", "nonsense"): "--log-bytes-max",
    ("--log-bytes-max", "0"): "--log-bytes-max",
    ("--log-bytes-max",): "--log-bytes-max",
    ("--config", "none.toml"): "none.toml",
    ("--config", "unknown.toml"): "sharks",
    ("--config", "malformed.toml"): "malformed.toml",
    ("--config", "not-text.toml"): "not-text.toml",
    ("--config", "wrong-type.toml"): "--insecure",
    ("--config", "bad-value.toml"): "--log-bytes-max",
}
BAD_PEERS = {
    ("--node", "3"): "--node 3",
    ("--node", "x"): "--node",
    ("--node", "0"): "--node",
    ("--peer", "2=tcp:127.0.0.1:4"): "twice",
    ("--peer", "3=tcp:127.0.0.1:2"): "twice",
    ("--peer", "3=nonsense"): "nonsense",
    ("--peer", "tcp:127.0.0.1:4"): "--peer",
    ("--peer", "3="): "--peer",
}
BAD_MORE = {
    "kv-node": {("--advertise", "nonsense"): "--advertise", ("--shards", "0"): "--shards", ("--gid", "1"): "gid"},
    "kv-controller": {**BAD_PEERS, ("--shards", "5000"): "--shards", ("--value-bytes-max", "x"): "--value-bytes-max"},
    "kv-group": {**BAD_PEERS, ("--gid", "0"): "--gid", ("--controller", "tcp:127.0.0.1"): "--controller"},
}
REQUIRED = {
    "kv-node": ["--data"],
    "kv-controller": ["--data", "--listen", "--node", "--peer"],
    "kv-group": ["--data", "--listen", "--node", "--peer", "--gid", "--controller"],
}


@pytest.mark.parametrize("service", SOUND)
def test_a_bad_command_line_is_one_line(tmp_path, service):
    """Contract §1, for each of the three services: one clear line, a status that says failure, no file made."""
    (tmp_path / "unknown.toml").write_text("sharks = 3\n")
    (tmp_path / "malformed.toml").write_text("shards =\n")
    (tmp_path / "not-text.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "wrong-type.toml").write_text('insecure = "yes"\n')
    (tmp_path / "bad-value.toml").write_text("log-bytes-max = 1.5\n")
    before = sorted(tmp_path.iterdir())
    cases = {(*SOUND[service], *bad): words for bad, words in (BAD | BAD_MORE[service]).items()}
    cases |= {tuple(without(SOUND[service], option)): f"{option} is missing" for option in REQUIRED[service]}
    starts = [[service, *arguments] for arguments in cases]
    for (status, out, told), arguments, words in zip(started(tmp_path, starts), cases, cases.values(), strict=True):
        assert status == 1, arguments
        assert told.startswith(f"{service}: "), (arguments, told)
        assert told.count("\n") == 1, (arguments, told)
        assert words in told, (arguments, told)
        assert "Traceback" not in out, (arguments, out)
    assert sorted(tmp_path.iterdir()) == before


START = """
import json, os, sys
from twisted.scripts import twistd
import twisted_kv.service.controller, twisted_kv.service.group, twisted_kv.service.node

for number, arguments in enumerate(json.loads(sys.argv[1])):
    if not os.fork():
        for descriptor in (1, 2):
            os.dup2(os.open(f"{sys.argv[2]}/{number}.{descriptor}", os.O_WRONLY | os.O_CREAT), descriptor)
        sys.argv = ["twistd", "--nodaemon", "--pidfile=", *arguments]
        twistd.run()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def started(directory, starts):
    """(status, standard output, standard error) of twistd for each command line, with the modules loaded only once."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-u", "-c", START, json.dumps(starts), output]
        ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=True)
        statuses = map(int, ended.stdout.split())
        streams = [[Path(output, f"{number}.{each}").read_text() for each in (1, 2)] for number in range(len(starts))]
    return [(status, *texts) for status, texts in zip(statuses, streams, strict=True)]


def without(arguments, option):
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    return [word for pair in pairs if pair[0] != option for word in pair]


@process_test
async def test_a_bad_directory_is_one_line(tmp_path, monkeypatch):
    """Contract §1, docs/storage.md: in use, of a newer format, halved, damaged, open to everybody; a port in use.

    Also where the disk is so slow that a thread does the writing: it must not keep alive what was refused.
    """
    async with NodeScene(tmp_path) as scene:
        await scene.clerk.put("k", "v", timeout=20)
        data = tmp_path / "node"
        group = data / "group"

        async def refusal(*listen):
            arguments = ("kv-node", "--data", str(data), *(listen or LISTEN))
            line = await scene.in_thread(refused, tmp_path, *arguments)
            assert line.startswith("kv-node: ")
            return line

        assert f"in use by process {scene.node.transport.pid}" in await refusal()
        assert "cannot listen on" in await refusal(*scene.node.arguments[3:5])
        await scene.kill(scene.node)

        set_format(group / "data.sqlite3", 99)
        assert "format 99" in await refusal()
        with monkeypatch.context() as slow:
            customized(slow, tmp_path, SLOW_DISK)
            assert "format 99" in await refusal()
            set_format(data / "controller" / "log.sqlite3", 99)
            assert "format 99" in await refusal()
        set_format(data / "controller" / "log.sqlite3", 1)
        set_format(group / "data.sqlite3", 1)

        group.chmod(0o777)
        assert "chmod 700" in await refusal()
        group.chmod(0o700)
        (group / "log.sqlite3").rename(tmp_path / "kept")
        assert "log.sqlite3" in await refusal()
        (group / "log.sqlite3").write_bytes(b"no database at all, but long enough to have a header" * 10)
        assert "log.sqlite3" in await refusal()
        (tmp_path / "kept").replace(group / "log.sqlite3")

        # Nothing was repaired, cut off or deleted.
        scene.revive(scene.node)
        assert await scene.clerk.get("k", timeout=20) == "v"


def set_format(file, number):
    with closing(sqlite3.connect(file)) as database:
        database.execute(f"PRAGMA user_version = {number}")


# ── what strangers send ────────────────────────────────────────────────────────────────────────────

GREETING = banana.encode(b"pb") + banana.encode([b"version", 6])
NOTHING = [b"dictionary"]


def call(*jelly, name=b"put", target=b"root"):
    """The bytes of one call."""
    return GREETING + banana.encode([b"message", 1, target, name, 1, [b"tuple", *jelly], NOTHING])


STREAMS = {
    "nothing": b"",
    "noise": Random(24).randbytes(100_000),
    "zeros": bytes(2 * MIB),
    "HTTP": b"GET /status HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "a string that is declared and never comes": b"\x00\x00\x00\x00\x04\x82" + bytes(1000),
    "nested lists": b"\x01\x80" * MIB,
    "a list without end": b"\x7f\x7f\x7f\x7f\x80" + b"\x01\x81" * (2 * MIB),
    "digits without end": b"\x01" * MIB,
    "unknown words": b"\x7f\x87" * 1000,
    "no greeting": call(b"k", b"v")[len(GREETING) :],
    "another version": banana.encode(b"pb") + banana.encode([b"version", 5]),
    "another dialect": banana.encode(b"none"),
    "greeted, then noise": GREETING + Random(25).randbytes(100_000),
    "greeted, then nested lists": GREETING + b"\x01\x80" * MIB,
    "greeted, then a list without end": GREETING + b"\x7f\x7f\x7f\x7f\x80" + b"\x01\x81" * (2 * MIB),
    "greeted, then too large a string": GREETING + b"\x00\x00\x00\x00\x04\x82" + bytes(4 * MIB),
    "too many small values": call([b"list", *range(200_000)]),
    "a message beyond all budgets": call(*[bytes(600_000)] * 8),
    "no command": GREETING + banana.encode([1, 2, 3]),
    "an answer to nothing": GREETING + banana.encode([b"answer", 1, b"x"]),
    "another object": call(b"k", b"v", target=b"7"),
    "a class": call([b"class", b"os.system"], b"v"),
    "an instance": call([b"twisted_kv.errors.KVError", NOTHING], b"v"),
    "a module": call([b"module", b"os"], b"v"),
    "a set": call([b"set", 1, 2], b"v"),
    "a remote object": call([b"remote", 3], b"v"),
    "a value in itself": call([b"reference", 1, [b"list", [b"dereference", 1]]], b"v"),
    "shared a billion times": call(
        [b"list", [b"reference", 1, [b"list", *[b"x"] * 1000]], *[[b"dereference", 1]] * 1000], b"v"
    ),
    "text that is none": call([b"unicode", b"\xff\xfe"], b"v"),
    "a name that is none": call(b"k", name=b"\xff\x00\n" * 1000),
}

PLAIN = [
    *[(name, *arguments) for name in ("get", "put", "append", "delete", "put_hash") for arguments in (
        (), (1,), (None, None), ("k", 1), ("k", [1]), ("", "v"), ("k" * 5000, "v"), ("k", "v", "w"), (b"k", b"v")
    )],
    *[(name, *arguments) for name in ("join", "leave", "move", "readdress", "query", "status") for arguments in (
        ("x",), (None,), ({9: 2},), ({"a": ["b"]},), ({-1: ["tcp:h:1"]},), ([1.5],), (10**6, 10**6), (-7,), ({}, {}, {})
    )],
    ("__init__",), ("remoteMessageReceived", "x"), ("callRemote",), ("",), ("x" * 100_000,),
]  # fmt: skip

SEALED = Codec(object)
EXTREMES = (-(1 << 63), -1, (1 << 63) - 1, (1 << 64) - 1)
VERBS = sorted(verb for name, verb in vars(wire).items() if name.isupper() and isinstance(verb, str))


def bodies():
    """Sealed bodies that no peer of ours sends; each goes to every verb."""
    sound = SEALED.encode([1, "a", [b"b"]])
    yield from (b"", b"\0", bytes(5), sound[:-1], sound[:1] + bytes(4) + sound[5:], b"\x63" + sound[1:], sound)
    yield from (Random(size).randbytes(size) for size in (5, 100))
    for packed in (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 100_000, b"\xc1", b"\xa1\xff"):
        yield bytes([FORMAT_VERSION]) + zlib.crc32(packed).to_bytes(4, "big") + packed
    # The shapes are right, the figures are not.
    for number in EXTREMES:
        operation = Operation("p", "k", "v", number, number, number)
        yield from map(SEALED.encode, (
            Write((operation,)), Write(()), Write((Operation("p", "k", 5, 1, 1, 1), Operation("d", "", "v", 1, 1, 1))),
            Open((number,) * 3, bytes(16)), Open((0,), b""), Open((), bytes(16)),
            Read(("", "k" * 5000)), Read(()), Scan(number, None, number), Scan(0, "", number),
            Install(number, number, number, (Row(number, number, "key", "k", 5),), Cursor(), True, True, 0),
            Freeze(number, number), Drop(number, number),
            PullRows(number, number, Cursor(("", ""), True, number), number, True),
            Found("x", number, number), Claim(number, number, "x"), Enroll(bytes(1000)),
            QueryConfiguration(number, number), Administer(number, number, number, Move(number, number)),
            Administer(1, 1, 1, Join(((number, ("tcp:h:1", "")),))), Administer(1, 1, 1, Readdress(number, ())),
            Administer(1, 1, 1, Leave((number, number))),
            RowsRequest(number, number, None, number), RowsRequest(1, 0, RowKey(number, number, "", ""), number),
            Step(number, number, "x", number, b"x"), Step(1, 1, "x", 1, sound), Who(),
            Hello("group", 1, number, "x", "raft", ((number, "x"),), True), Hello("controller", 0, 1, "", ""),
        ))  # fmt: skip


@process_test
async def test_strangers_do_no_harm(tmp_path):
    """Whatever strangers send, one after the other: a Clerk is served all the time, nothing breaks, memory stays.

    Raw bytes and HTTP; messages beyond every budget; plain calls with wrong arguments or of no such name; and to
    each verb between our own programs, bodies that are malformed, of another verb, or out of every range. What of it
    stands in the log has come into a checkpoint meanwhile, and a start over it does no harm either.
    """
    async with NodeScene(tmp_path, "--log-bytes-max", "20000") as scene:
        await scene.clerk.put("k", "v", timeout=20)
        before = memory(scene.node, "VmRSS")
        writer = Writer(scene.clerk, "served")
        scene.writers.append(writer)
        running = ensureDeferred(writer.run())

        async def still_served():
            enough = len(writer.acknowledged) + 2

            async def served():
                return len(writer.acknowledged) >= enough

            await scene.until(served)

        host, port = scene.node.endpoint.split(":")[1:]
        for stream in STREAMS.values():
            await scene.in_thread(send, (host, int(port)), stream)
            await still_served()

        for answer in await scene.call(scene.node, *PLAIN):
            assert not isinstance(answer, pb.RemoteError) or b"twisted_kv.errors." in answer.remoteType
            assert isinstance(answer, pb.RemoteError | dict | str), answer
        await still_served()

        for verb in VERBS:
            calls = [(verb, body) for body in bodies()]
            for answer in await scene.call(scene.node, *calls):
                # What goes one way has no answer to say it in.
                refused = isinstance(answer, pb.RemoteError) and answer.remoteType == b"twisted_kv.errors.BadRequest"
                assert (
                    refused if verb == wire.PEER_STEP and not isinstance(answer, bytes) else isinstance(answer, bytes)
                )
            await still_served()
        wrong = [(verb, *arguments) for verb in VERBS for arguments in ((), (1,), ("k",), (b"", b""), (None,), ([],))]
        for answer in await scene.call(scene.node, *wrong):
            assert isinstance(answer, pb.RemoteError)
            assert answer.remoteType == b"twisted_kv.errors.BadRequest"

        await still_served()
        grown = memory(scene.node, "VmHWM") - before
        assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"
        writer.stopped = True
        await running
        assert scene.node.status is None
        await scene.kill(scene.node)
        scene.revive(scene.node)
        assert await scene.clerk.get("k", timeout=20) == "v"
        await writer.judge()
        assert "Traceback" not in scene.told(scene.node)


def memory(child, name):
    """A figure of /proc/PID/status, in bytes: VmRSS is what is resident, VmHWM the most that ever was."""
    status = Path(f"/proc/{child.transport.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def send(address, stream):
    """All of it, or as much as they take; and what they answer is read until they have had enough."""
    with socket.create_connection(address, timeout=10) as connection, suppress(OSError):
        connection.sendall(stream)
        connection.settimeout(0.2)
        while connection.recv(65536):
            pass
