"""Target "files": what operators write and disks return: options, TOML files, endpoint lists, replica directories.

Judged: options and TOML either make Settings or end with one line; a replica directory opens with what was in it or
is refused (StartRefused), and what is refused stays as it is. (tests/crash_points looks at directories more closely.)
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import Any

import click
from fuzz_servers import Finding, Servers, ram_directory
from fuzz_targets import Target, Verdict
from fuzz_values import broken, one_of, up_to

from twisted_kv.admin.reach import Reach
from twisted_kv.errors import StartRefused
from twisted_kv.service import controller, group, node
from twisted_kv.service.settings import Settings, options_of
from twisted_kv.storage.directory import open_directory

SERVICES: dict[str, Any] = {"controller": controller, "group": group, "node": node}
WORDS = (
    "", "d", "1", "0", "-1", "3", "99999999999999999999", "9" * 5000, "1_0", "٣", "nan", "raft", "paxos", "true",
    "\n", "a\nb", "tcp:0:interface=127.0.0.1", "tcp:7001", "tcp:x", "unix:/tmp/x", "1=tcp:127.0.0.1:7001", "2=tcp:h:5",
    "=", "1=", "x=y", "1=tcp:a\\=b:5", "tcp:h:5,tcp:i:5", "tcp:h:5\\,x", "é" * 300, "tcp:0:interface=::1",
    "ssl:5:interface=127.0.0.1", "tcp:" * 50,
)  # fmt: skip
TOML = (
    '"d"', "1", "-1", "0", "1.5", "true", "[]", '["1=tcp:127.0.0.1:7001"]', '["tcp:h:5"]', "[1]", "{}", "{a = 1}",
    '"a\\u0000b"', "1979-05-27", "[" * 3000, "9" * 5000, '"""\n"""', "'\n'", "0x", "inf", "[[1]]",
    '"tcp:0:interface=127.0.0.1"', '"raft"',
)  # fmt: skip
SOUND = {
    "node": ["--data", "d"],
    "controller": ["--data", "d", "--listen", "tcp:0:interface=127.0.0.1", "--node", "1", "--peer", "1=tcp:h:5"],
    "group": ["--data", "d", "--listen", "tcp:0:interface=127.0.0.1", "--node", "1", "--peer", "1=tcp:h:5",
              "--gid", "1", "--controller", "tcp:h:6"],
}  # fmt: skip
FILES = ("log.sqlite3", "data.sqlite3", "log.sqlite3-wal", "data.sqlite3-wal", "log.sqlite3-shm", "lock", "ballast")


class Files(Target):
    """Files and lists of words."""

    name = "files"
    share = 0.03
    life = 2000
    seconds_max = 5.0

    def __init__(self, seed: int, life: int = 0) -> None:
        self._path = ram_directory()
        self._templates = [self._template(seed, clean) for clean in (True, False)]
        self._known = [_contents(_copied(each, self._path / "known")) for each in self._templates]

    def draw(self, random: Random) -> list[Any]:
        draw = random.random()
        kind = one_of(random, tuple(SERVICES))
        if draw < 0.35:
            return ["options", kind, *self._options(random, kind)]
        if draw < 0.75:
            return ["toml", kind, self._toml(random, kind)]
        if draw < 0.85:
            return ["endpoints", ",".join(one_of(random, WORDS) for _ in range(up_to(random, 4)))]
        return ["directory", int(random.random() * 2), self._damage(random)]

    def feed(self, given: list[Any]) -> Verdict:
        what, *arguments = given
        verdict: Verdict = getattr(self, f"_feed_{what}")(*arguments)
        return verdict

    def close(self) -> None:
        shutil.rmtree(self._path, ignore_errors=True)

    # ── options ────────────────────────────────────────────────────────────────────────────────────

    def _options(self, random: Random, kind: Any) -> list[str]:
        words = list(SOUND[kind])
        for _ in range(1 + up_to(random, 3)):
            place = int(random.random() * (len(words) + 1))
            name = "--" + one_of(
                random, [option.name for option in options_of(kind)] + ["config", "help", "version", "x"]
            )
            words[place:place] = one_of(random, ([name], [name, one_of(random, WORDS)], [one_of(random, WORDS)]))
        return words if random.random() < 0.7 else [w for w in words if random.random() < 0.9]

    def _toml(self, random: Random, kind: Any) -> bytes:
        names = [option.name for option in options_of(kind)]
        lines = [f"{one_of(random, names)} = {one_of(random, TOML)}" for _ in range(1 + up_to(random, 4))]
        if random.random() < 0.1:
            lines.append(one_of(random, ("[a]", "x = 1", "=", '"a\\nb" = 1', "[[peer]]", "a.b = 1")))
        text = "\n".join(lines).encode()
        return broken(random, text) if random.random() < 0.5 else text

    def _feed_options(self, kind: str, *words: str) -> Verdict:
        return self._parsed(kind, list(words))

    def _feed_toml(self, kind: str, text: bytes) -> Verdict:
        file = self._path / "settings.toml"
        file.write_bytes(text)
        return self._parsed(kind, ["--config", str(file), *SOUND[kind]])

    def _parsed(self, kind: str, words: list[str]) -> Verdict:
        options = SERVICES[kind].Options()
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                options.parseOptions(words)
        except SystemExit as ended:
            if ended.code in (0, None):
                return Verdict(True, "help")
            if not isinstance(ended.code, str) or "\n" in ended.code or not ended.code.startswith(f"kv-{kind}: "):
                raise Finding(f"not one line: {ended.code!r}") from None
            return Verdict("--config" not in ended.code, "refused")
        if not isinstance(options.settings, Settings):
            raise Finding("there are no settings")
        return Verdict(True, "settings")

    def _feed_endpoints(self, text: str) -> Verdict:
        try:
            Reach((text,)).endpoints  # noqa: B018
        except click.BadParameter:
            return Verdict(True, "no endpoint")
        return Verdict(True, "endpoints")

    # ── directories ────────────────────────────────────────────────────────────────────────────────

    def _template(self, seed: int, clean: bool) -> Path:
        """A directory with something in it: as it is closed, or as a crash leaves it."""
        servers = Servers(seed, node=True)
        try:
            for number in range(30):
                servers.wait(servers.clerk.put(f"key-{number}", "v" * 40 * number))
            path = self._path / ("closed" if clean else "crashed")
            if not clean:
                shutil.copytree(servers.path / "node" / "group", path)
            for server in servers.servers.values():
                server.stop()
            servers.reactor.pass_seconds(5.0)
            if clean:
                shutil.copytree(servers.path / "node" / "group", path)
        finally:
            servers.close()
        return path

    def _damage(self, random: Random) -> list[list[Any]]:
        """What happens to which file: [file, how, where (0 … 1), number]."""
        hows = ("flip", "flip", "flip", "cut", "zeros", "grow", "empty", "gone", "other", "directory", "link", "closed")
        return [
            [one_of(random, FILES[:4] if random.random() < 0.8 else FILES), one_of(random, hows), random.random(),
             int(random.random() * 8)]
            for _ in range(1 + up_to(random, 1))
        ]  # fmt: skip

    def _feed_directory(self, template: int, damage: list[list[Any]]) -> Verdict:
        path = _copied(self._templates[template], self._path / "replica")
        for name, how, where, number in damage:
            _DAMAGE[how](path / name, where, number)
        before = _bytes_of(path)
        try:
            found = _contents(path)
        except StartRefused as error:
            changed = [name for name, content in before.items() if _bytes_of(path).get(name) != content]
            # A -wal moves into its file when that is closed; that is no loss, but not untouched either (docs/fuzz.md).
            if any(name in FILES[:2] and f"{name}-wal" not in before for name in changed):
                raise Finding(f"refused ({error}), and yet {changed} are not what they were") from None
            return Verdict(True, "refused")
        # The end of a -wal cannot be told from a write that the power cut short.
        if found != self._known[template] and not any(name.endswith("-wal") for name, *_ in damage):
            raise Finding(f"opened after {damage}, with something else in it")
        return Verdict(True, "opened")


def _copied(source: Path, target: Path) -> Path:
    if target.exists():
        for each in target.iterdir():
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    target.mkdir(mode=0o700, exist_ok=True)
    for each in source.iterdir():
        shutil.copy(each, target / each.name)
    return target


def _contents(path: Path) -> Any:
    directory = open_directory(str(path), synchronous="OFF", ballast_bytes=0, create=False)
    try:
        rows = directory.data.rows(None, 1 << 24)
        return directory.log.restore(), directory.log.identity(), directory.data.position(), rows
    finally:
        directory.close()


def _bytes_of(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir() if each.is_file()}


def _changed(change: Callable[[bytearray, int, int], Any]) -> Callable[[Path, float, int], None]:
    def damage(file: Path, where: float, number: int) -> None:
        if file.is_file() and not file.is_symlink():
            content = bytearray(file.read_bytes())
            change(content, int(where * len(content)), number)
            file.write_bytes(content)

    return damage


def _flip(content: bytearray, at: int, number: int) -> None:
    if content:
        content[at % len(content)] ^= 1 << number


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        file.rmdir()
    else:
        file.unlink(missing_ok=True)


def _instead(make: Callable[[Path], Any]) -> Callable[[Path, float, int], None]:
    def damage(file: Path, where: float, number: int) -> None:
        _remove(file)
        make(file)

    return damage


_DAMAGE: dict[str, Callable[[Path, float, int], None]] = {
    "flip": _changed(_flip),
    "cut": _changed(lambda content, at, number: content.__delitem__(slice(at, None))),
    "zeros": _changed(lambda content, at, number: content.__setitem__(slice(at, at + 512), bytes(512))),
    "grow": _changed(lambda content, at, number: content.extend(b"\xff" * (at + 1))),
    "empty": _instead(lambda file: file.write_bytes(b"")),
    "gone": _instead(lambda file: None),
    "other": _instead(lambda file: file.write_bytes(b"no database at all, but long enough for one" * 200)),
    "directory": _instead(lambda file: file.mkdir()),
    "link": _instead(lambda file: os.symlink("/dev/null", file)),
    "closed": _instead(lambda file: file.touch(mode=0o000)),
}
