from __future__ import annotations

from pathlib import Path

import pytest

from twisted_kv._version import __version__
from twisted_kv.service.controller import Options as ControllerOptions
from twisted_kv.service.group import Options as GroupOptions
from twisted_kv.service.node import Options as NodeOptions
from twisted_kv.service.options import ServiceOptions
from twisted_kv.service.settings import options_of

CONTROLLER = "--node 1 --data d --listen tcp:0:interface=127.0.0.1 --peer 1=tcp:127.0.0.1:1 --peer 2=tcp:127.0.0.1:2"


def test_the_command_line_is_read() -> None:
    options = ControllerOptions()
    options.parseOptions(f"{CONTROLLER} --shards 4 --log-bytes-max -1 --insecure".split())
    settings = options.settings
    assert (settings.node, settings.shards, settings.log_bytes_max, settings.insecure) == (1, 4, -1, True)
    assert list(settings.peers) == [1, 2]


def test_repeated_options_do_not_leak_from_one_reading_to_the_next() -> None:
    GroupOptions().parseOptions(f"--gid 1 {CONTROLLER} --controller tcp:127.0.0.1:3".split())
    options = GroupOptions()
    options.parseOptions(f"--gid 1 {CONTROLLER} --controller tcp:127.0.0.1:4".split())
    assert options.settings.controllers == ("tcp:127.0.0.1:4",)


def test_a_file_fills_in(tmp_path: Path) -> None:
    """Contract §1: --config FILE.toml; the command line wins."""
    file = tmp_path / "node.toml"
    file.write_text('data = "there"\nshards = 7\nlisten = "tcp:1:interface=127.0.0.1"\n')
    options = NodeOptions()
    options.parseOptions(["--config", str(file), "--shards", "9"])
    assert (options.settings.data.name, options.settings.shards) == ("there", 9)


@pytest.mark.parametrize("text", ["not toml", "\xff", 'sharks = 3\ndata = "d"'])
def test_a_bad_file_stops_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SystemExit) as caught:
        NodeOptions().parseOptions(["--config", str(file)])
    assert str(caught.value).startswith("kv-node: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="No such file"):
        NodeOptions().parseOptions(["--config", str(tmp_path / "none.toml")])


def test_bad_settings_end_the_program_with_one_line() -> None:
    """Contract §1: one clear line and a non-zero exit status; a UsageError would print all of twistd's help."""
    with pytest.raises(SystemExit) as caught:
        ControllerOptions().parseOptions(CONTROLLER.replace("--node 1", "--node 3").split())
    assert str(caught.value).startswith("kv-controller: --node 3 ")


@pytest.mark.parametrize("more", ["--nonsense", "--node", "stray"])
def test_a_line_that_cannot_be_read_ends_the_program_with_one_line(more: str) -> None:
    with pytest.raises(SystemExit) as caught:
        ControllerOptions().parseOptions([*CONTROLLER.split(), more])
    assert str(caught.value).startswith("kv-controller: ")
    assert "\n" not in str(caught.value)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        NodeOptions().parseOptions(["--version"])
    assert caught.value.code == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("options", [ControllerOptions(), GroupOptions(), NodeOptions()], ids=lambda each: each.kind)
def test_the_help_tells_every_option(options: ServiceOptions) -> None:
    told = " ".join(str(options).split())
    for option in options_of(options.kind):
        assert f"--{option.name}" in told
    assert "--config" in told


@pytest.mark.parametrize("toml", ["a = " + "[" * 5000, "shards = " + "9" * 5000, 'data = "a\\u0000b"'])
def test_a_configuration_file_that_python_chokes_on_is_one_line_too(tmp_path: Path, toml: str) -> None:
    """Found by fuzzing: each was a traceback."""
    file = tmp_path / "settings.toml"
    file.write_text(toml)
    with pytest.raises(SystemExit) as caught:
        NodeOptions().parseOptions(["--config", str(file)])
    assert str(caught.value).startswith("kv-node: --")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["--listen", "a\nb"], ["--config", "no\nsuch"], ["--no\nsuch"]])
def test_a_refusal_is_one_line_also_where_the_mistake_has_several(words: list[str]) -> None:
    """Found by fuzzing: Twisted repeats what it could not parse as it stands."""
    with pytest.raises(SystemExit) as caught:
        NodeOptions().parseOptions(["--data", "d", *words])
    assert "\n" not in str(caught.value)
