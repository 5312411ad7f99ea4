"""Target "commands": the command line twisted-kv, with a server in memory and with none.

Judged: it ends, with a status of contract §2; what it says on standard error is one line, or click's usage; no
exception but SystemExit comes out.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from fuzz_servers import Finding, Servers
from fuzz_targets import Target, Verdict
from fuzz_values import TEXTS, broken, one_of, up_to, weighted
from twisted.internet.defer import ensureDeferred

from twisted_kv.admin import cli, reach
from twisted_kv.admin.reach import CONTROLLERS_VARIABLE
from twisted_kv.admin.running import Status, status_of

NUMBERS = (b"0", b"1", b"-1", b"2", b"7", b"100", b"99999999999999999999", b"9" * 5000, b"1e3", b"nan", b"x", b"")
ENDPOINTS = (
    b"tcp:127.0.0.1:7000", b"tcp:127.0.0.1:9", b"tcp:a\\=b:5", b"tcp::5", b"tcp:h:0", b"tcp:h:99999", b"unix:", b"x",
    b"tcp", b"tcp:host=h:port=5", b"", b",", b"\\,", b"tcp:\xff:5", b"ssl:h:5", b"tls:h:5", b"tcp:h:" + b"5" * 5000,
)  # fmt: skip
COMMANDS = (b"get", b"put", b"append", b"puthash", b"delete", b"load", b"dump", b"join", b"leave", b"move", b"query",
            b"readdress", b"status", b"inspect", b"bench", b"simulate", b"demo", b"nonsense", b"")  # fmt: skip
OPTIONS = (b"--json", b"--help", b"--timeout", b"-c", b"--controller", b"--exists", b"--unchecked", b"--seconds",
           b"--clients", b"--mix", b"--value-bytes", b"--nonsense", b"--", b"-", b"-h", b"--version")  # fmt: skip
LINES = (
    b'{"key": "a", "value": "b"}', b'{"key": "a", "value_base64": "YQ=="}', b'{"key": 1}', b"{", b"[]", b"\xff",
    b'{"key": "\\ud800", "value": "b"}', b'{"key": "a", "value_base64": "\xc3\xa9"}', b"[" * 100_000, b"9" * 5000,
    b'{"key": "", "value": ""}', b'{"key": "' + b"a" * 5000 + b'", "value": ""}', b"",
)  # fmt: skip
SECONDS_MAX = 40.0
LINES_MAX = 4


class CommandLine(Target):
    """Argument lists, and what is piped into them."""

    name = "commands"
    share = 0.02
    life = 500
    seconds_max = 5.0

    def __init__(self, seed: int, life: int = 0) -> None:
        self._served = life % 2 == 1
        self.servers = Servers(seed, node=True)
        if not self._served:
            self.servers.reactor.listeners.clear()

    def draw(self, random: Random) -> list[Any]:
        """Arguments, standard input, and the environment's controllers or None."""
        command = one_of(random, COMMANDS)
        arguments = [command] if random.random() < 0.97 else []
        usual = {
            b"get": 1, b"put": 2, b"append": 2, b"puthash": 2, b"delete": 1, b"load": 1, b"dump": 1, b"move": 2,
            b"leave": 1, b"query": 1, b"inspect": 2,
        }.get(command, up_to(random, 2))  # fmt: skip
        for _ in range(usual if random.random() < 0.9 else up_to(random, 4)):
            arguments.append(self._word(random, command))
        for _ in range(up_to(random, 3) if random.random() < 0.3 else 0):
            at = int(random.random() * (len(arguments) + 1))
            option = one_of(random, OPTIONS)
            arguments[at:at] = [option, self._word(random, command)] if random.random() < 0.6 else [option]
        if random.random() < 0.7:
            arguments[:0] = [b"--timeout", b"0.3"]
        if random.random() < 0.1 and arguments:
            place = int(random.random() * len(arguments))
            arguments[place] = broken(random, arguments[place]).replace(b"\0", b"")
        if command in (b"bench", b"simulate", b"demo"):
            # These are not begun: they take a real cluster, a real clock or a long time.
            arguments = [*[each for each in arguments if each != b"--"], b"--nonsense", b"--nonsense"]
        lines = [one_of(random, LINES) for _ in range(up_to(random, 4))]
        controllers = one_of(random, ENDPOINTS).replace(b"\0", b"") if random.random() < 0.1 else None
        return [[each.replace(b"/", b"") for each in arguments], b"\n".join(lines), controllers]

    def feed(self, given: list[Any]) -> Verdict:
        arguments, piped, controllers = given
        status, told, shown = self._typed([os.fsdecode(each) for each in arguments], piped, controllers)
        if status not in {*map(int, Status)} - {Status.BUG}:
            raise Finding(f"the exit status is {status}: {told}")
        if "Traceback" in told or ("Usage: " not in told and told.count("\n") > 1):
            raise Finding(f"more than a line on standard error: {told}")
        if status and not (told or shown) and status != Status.NO:
            raise Finding(f"it ends with {status} and says nothing")
        self.servers.check()
        return Verdict(status != Status.UNPARSED, Status(status).name)

    @property
    def worn(self) -> bool:
        [controller] = [each for each in self.servers.members(7000) if each._parts.kind == "controller"]
        return controller.machine.status()["configurations"] > 1 if self._served else False

    def close(self) -> None:
        self.servers.close()

    def _word(self, random: Random, command: bytes) -> bytes:
        if command in (b"join", b"readdress"):
            gid, endpoints = one_of(random, NUMBERS), [one_of(random, ENDPOINTS) for _ in range(up_to(random, 3))]
            return one_of(random, (gid + b"=", gid, b"")) + b",".join(endpoints)
        drawn = weighted(random, [(2.0, "number"), (4.0, "text"), (1.0, "endpoint"), (1.0, "path")])
        if drawn == "number":
            return one_of(random, NUMBERS)
        if drawn == "endpoint":
            return one_of(random, ENDPOINTS)
        if drawn == "path":
            return one_of(random, (b"-", b"node", b".", b"..", b"node.log", b"log", b"sqlite_master", b"x" * 300))
        return os.fsencode(one_of(random, TEXTS)).replace(b"\0", b"") or one_of(random, (b"", b"\xff\xfe", b"\ntwo"))

    def _typed(self, arguments: list[str], piped: bytes, controllers: bytes | None) -> tuple[int, str, bool]:
        """Exit status, standard error, and whether anything was shown on standard output."""
        with self._at_a_prompt(piped, controllers) as (output, error):
            try:
                cli.main(arguments)
            except SystemExit as ended:
                status = int(ended.code or 0)
            output.flush()
            return status, error.buffer.getvalue().decode("utf-8", "replace"), bool(output.buffer.getvalue())

    @contextmanager
    def _at_a_prompt(self, piped: bytes, controllers: bytes | None) -> Iterator[Any]:
        streams, runs, here = (sys.stdin, sys.stdout, sys.stderr), (cli.run, reach.run), os.getcwd()
        sys.stdin = io.TextIOWrapper(io.BytesIO(piped), encoding="utf-8")
        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
        cli.run = reach.run = self._run
        os.environ.pop(CONTROLLERS_VARIABLE, None)
        if controllers is not None:
            os.environb[CONTROLLERS_VARIABLE.encode()] = controllers
        os.chdir(self.servers.path)
        try:
            yield sys.stdout, sys.stderr
        finally:
            os.chdir(here)
            os.environ.pop(CONTROLLERS_VARIABLE, None)
            cli.run, reach.run = runs
            sys.stdin, sys.stdout, sys.stderr = streams

    def _run(self, command: Callable[[Any], Any]) -> int:
        """What admin/running.run does, on the reactor in memory; after SECONDS_MAX, what Ctrl-C does."""
        reactor, ended = self.servers.reactor, []
        running = ensureDeferred(command(reactor))
        running.addBoth(ended.append)
        deadline = reactor.seconds() + SECONDS_MAX
        while not ended:
            reactor.pass_seconds(0.05)
            if reactor.seconds() > deadline + 20:
                raise Finding("a command does not end when it is interrupted")
            if reactor.seconds() > deadline and not running.called:
                running.cancel()
        return status_of(ended[0])
