"""What the documents say is true: examples run, and nothing that can be typed is missing."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import twisted_kv
from twisted_kv import errors
from twisted_kv.admin.cli import cli
from twisted_kv.admin.cluster import free_ports, twistd
from twisted_kv.service.settings import options_of

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
OPERATING = (ROOT / "docs" / "operating.md").read_text()
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(twisted_kv.__path__, "twisted_kv."):
        if not found.name.endswith("__main__"):
            yield found.name


@pytest.mark.parametrize("module", list(modules()))
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_the_readme_begins_with_two_lines_to_paste() -> None:
    """One walks through the demo, one runs the tests, both from a fresh clone, where pip may not install globally."""
    demo, tests = blocks(README, "sh")[0].splitlines()
    for line in (demo, tests):
        assert line.startswith("python3 -m venv .venv && .venv/bin/python -m pip install ")
    assert demo.endswith(".venv/bin/twisted-kv demo")
    assert tests.endswith(".venv/bin/python -m pytest")
    assert README.index(demo) < 100


@pytest.mark.process
def test_the_ten_lines_of_the_readme(tmp_path: Path) -> None:
    """``twistd -n kv-node`` and the program below it, as they stand there, but for the port."""
    port = free_ports(1)[0]
    [start] = [line for block in blocks(README, "sh") for line in block.splitlines() if "kv-node" in line]
    [program] = blocks(README, "python")
    assert start.startswith(".venv/bin/twistd -n kv-node ")
    assert len(program.strip().splitlines()) <= 15
    arguments = [*start.split()[1:], "--listen", f"tcp:{port}:interface=127.0.0.1"]
    node = subprocess.Popen([*twistd(), *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        example = program.replace("tcp:127.0.0.1:7000", f"tcp:127.0.0.1:{port}")
        ended = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.stdout, ended.stderr) == ("hello, world\n", "")
    finally:
        node.terminate()
        node.wait(timeout=30)


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_is_in_the_document(name: str) -> None:
    command = cli.commands[name]
    assert re.search(rf"^\| `{name}[ `]", COMMANDS, re.MULTILINE)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert any(option in COMMANDS for option in parameter.opts), f"{name} {parameter.opts}"


def test_every_command_in_the_document_is_there() -> None:
    documented = re.findall(r"^\| `([a-z]+)", COMMANDS, re.MULTILINE)
    assert sorted(documented) == sorted(cli.commands)


@pytest.mark.parametrize("kind", ["controller", "group", "node"])
def test_every_option_is_in_the_document(kind: str) -> None:
    rows = {
        row.split("`")[1].split()[0]: row.split("|")[2] for row in OPERATING.splitlines() if row.startswith("| `--")
    }
    for option in options_of(kind):  # type: ignore[arg-type]
        services = rows[f"--{option.name}"]
        assert "all" in services or f"kv-{kind}" in services
    told = {name for name, services in rows.items() if "all" in services or f"kv-{kind}" in services}
    assert told == {f"--{option.name}" for option in options_of(kind)} | {"--config"}  # type: ignore[arg-type]


def test_the_configuration_file_in_the_document_is_one() -> None:
    import tomllib

    from twisted_kv.service.settings import settings_from

    [text] = blocks(OPERATING, "toml")
    assert settings_from("controller", {}, tomllib.loads(text)).node == 1


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", GLOSSARY, re.MULTILINE)
    assert len(words) == len(set(words)) > 30
    assert words == sorted(words, key=str.lower)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+?)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_error_is_public() -> None:
    """Contract §3: so is every error class."""
    for name in errors.__all__:
        if name[0].isupper():
            assert getattr(twisted_kv, name) is getattr(errors, name)
            assert name in twisted_kv.__all__
