"""The fuzzer's share of the ordinary run: some inputs of every target, a new seed each time; and proof that it bites.

The seed is printed with a failure, and so is the command that feeds the failing input again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import fuzz_campaign
import msgspec
import pytest
from fuzz_campaign import feed_again, read_saved, run, shrunk
from fuzz_codec import Codecs, with_a_bomb
from fuzz_command import BY_NAME, TARGETS, main, shares
from fuzz_parts import Parts
from fuzz_port import Port
from fuzz_servers import Finding
from fuzz_targets import Target, Verdict
from fuzz_values import collision, seal
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_kv.codec import Codec, Malformed
from twisted_kv.machines import commands
from twisted_kv.replica.doors import GroupDoors
from twisted_kv.transport import banana, chunks
from twisted_kv.transport.banana import Budget, Decoder, Violation

COUNTS = {"banana": 4000, "codec": 4000, "parts": 5000, "files": 300, "commands": 150, "port": 1500}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_input_breaks_a_rule(target: type[Target], tmp_path: Path) -> None:
    """Issue 3, item 8; hazards S1-S4, S13: new inputs in every run."""
    seed = Random().getrandbits(32)
    [tally] = run({target: COUNTS[target.name]}, seed, tmp_path, time.monotonic() + 120, apart=False)
    assert not tally.findings, f"seed {seed}: {tally.findings}"
    assert tally.inputs
    assert tally.framed > tally.inputs / 8, f"too little passes framing to mean anything: {tally}"


# ── it bites: each fault is planted for the time of one test ───────────────────────────────────────


def found(target: type[Target], path: Path, count: int = 4000, seed: int = 7) -> list[str]:
    [tally] = run({target: count}, seed, path, time.monotonic() + 120, apart=False, findings_max=1)
    return tally.findings


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, logged_errors: list[Any]) -> Iterator[None]:
    """Findings are not cut down; what the planted fault logs is expected."""
    monkeypatch.setattr(fuzz_campaign, "SHRINK_SECONDS_MAX", 0.0)
    yield
    logged_errors.clear()


@pytest.mark.usefixtures("quick")
def test_a_door_that_raises_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """S13, decision: whatever is wrong with a request is an answer."""
    scan = GroupDoors.scan

    def raising(self: GroupDoors, body: bytes) -> Any:
        try:
            commands.SCANS.decode(body)
        except Malformed as error:
            raise TypeError("planted") from error
        return scan(self, body)

    monkeypatch.setattr(GroupDoors, "scan", raising)
    findings = found(Port, tmp_path)
    assert findings and "planted" in findings[0]


@pytest.mark.usefixtures("quick")
def test_a_read_that_writes_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No state change by what is refused."""

    def rejecting(self: GroupDoors, error: str, text: str) -> Any:
        replica = self._replica()
        if replica is not None and replica.leads:
            replica.submit(commands.GROUP_COMMANDS.encode(commands.Freeze(1, 1)))
        return GroupDoors._tell(commands.Refused("BadRequest", text)) if not replica else reject(self, error, text)

    reject = GroupDoors._reject
    monkeypatch.setattr(GroupDoors, "_reject", rejecting)
    findings = found(Port, tmp_path)
    assert findings and "and yet" in findings[0]


@pytest.mark.usefixtures("quick")
def test_a_body_that_is_looked_into_before_it_is_weighed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bomb that fuzzing found in the codec of writes: minutes and gigabytes for one body."""

    class Bombs(Codecs):
        """Nothing but one bomb, and a judge to match: it is refused for nothing, or looked into 2 ** 26 times."""

        seconds_max = 0.15

        def draw(self, random: Random) -> list[Any]:
            return ["WRITES", seal(with_a_bomb("WRITES", collision(13))), False]

    assert found(Bombs, tmp_path, 4) == []
    monkeypatch.setattr(commands, "WRITES", Codec(commands.Write, commands.COMMAND_BYTES_MAX))
    findings = found(Bombs, tmp_path, 4)
    assert findings and "took" in findings[0]


@pytest.mark.usefixtures("quick")
def test_a_decoder_without_the_cap_on_items_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """S3: the budget is kept by what is declared."""

    def opened(self: Decoder, count: int) -> None:
        self._received([]) if count == 0 else self._lists.append((count, []))
        if len(self._lists) > self.budget.depth_max:
            raise Violation("nested")

    monkeypatch.setattr(banana.Decoder, "_opened", opened)
    findings = found(BY_NAME["banana"], tmp_path)
    assert findings and "items" in findings[0]


@pytest.mark.usefixtures("quick")
def test_parts_without_bound_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scenario §3.6-50, S4: the reserve counts every part that is held."""

    def forgetful(self: chunks.Uploads, upload: int) -> None:
        self._unfinished.pop(upload, None)

    monkeypatch.setattr(chunks.Uploads, "cancel", forgetful)
    findings = found(Parts, tmp_path)
    assert findings and "are counted" in findings[0]


@pytest.mark.usefixtures("quick")
def test_a_traceback_for_the_operator_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Contract §1: one clear line."""
    from twisted_kv.service import settings as room

    options = tuple(
        option if option.name != "node" else room.Option("node", lambda raw: {"1": 1}[raw], "planted", option.kinds)
        for option in room._OPTIONS
    )
    monkeypatch.setattr(room, "_OPTIONS", options)
    findings = found(BY_NAME["files"], tmp_path, 2000)
    assert findings and "KeyError" in findings[0]


# ── the harness itself ─────────────────────────────────────────────────────────────────────────────


class Falls(Target):
    """Falls at the second input that holds a 7."""

    name = "falls"

    def __init__(self, seed: int, life: int = 0) -> None:
        self.sevens = 0

    def draw(self, random: Random) -> list[Any]:
        return [int(random.random() * 10)]

    def feed(self, given: list[Any]) -> Verdict:
        self.sevens += given[0] == 7
        if self.sevens == 2:
            raise Finding("the second seven")
        return Verdict(True, "taken")


def test_what_fails_is_shrunk_and_can_be_fed_again(tmp_path: Path) -> None:
    [tally] = run({Falls: 1000}, 3, tmp_path, time.monotonic() + 60, apart=False)
    [first, *_] = sorted(tmp_path.iterdir())
    saved = read_saved(first)
    assert saved.inputs == [[7], [7]]
    assert "the second seven" in tally.findings[0] and "--replay" in tally.findings[0]
    assert feed_again(saved, Falls) == "the second seven"
    assert shrunk(Falls, 0, 0, [[1], [7], [2], [7]]) == [[7], [7]]


def test_a_seed_names_its_inputs() -> None:
    """The same seed draws the same, so the seed that is printed says everything."""
    for target in TARGETS:
        drawn = []
        for _ in range(2):
            life, random = target(5), Random("5")
            drawn.append([life.draw(random) for _ in range(50)])
            life.close()
        assert drawn[0] == drawn[1], target.name
        msgspec.msgpack.encode(drawn[0])


def test_the_inputs_are_shared_out() -> None:
    counted = shares(1_000_000)
    assert set(counted) == set(TARGETS) and abs(sum(counted.values()) - 1_000_000) < 10
    assert shares(10, ["port"]) == {Port: 10}


def test_the_command_says_what_it_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 0 when nothing is found, 1 and a way to have it again when something is."""
    arguments = ["--inputs", "300", "--target", "parts", "--seed", "1", "--findings", str(tmp_path / "found")]
    record = tmp_path / "figures"
    assert main([*arguments, "--record", str(record)]) == 0
    assert "seed 1" in capsys.readouterr().out and '"inputs": 300' in record.read_text()
    monkeypatch.setattr(chunks.Uploads, "cancel", lambda self, upload: self._unfinished.pop(upload, None))
    assert main(arguments) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if "--replay" in line][:1]
    file = line.split()[-1]
    assert main(["--replay", file]) == 1
    monkeypatch.undo()
    assert main(["--replay", file]) == 0
    for other in (tmp_path / "none", record):
        with pytest.raises(SystemExit, match="is no saved finding"):
            main(["--replay", str(other)])


# ── any bytes at all, as Hypothesis finds and shrinks them ─────────────────────────────────────────


@settings(max_examples=150)
@given(st.data())
def test_any_bytes_are_decoded_or_malformed(data: st.DataObject) -> None:
    target = Codecs(0)
    name = data.draw(st.sampled_from(sorted(target.codecs)))
    target.feed([name, data.draw(st.binary(max_size=80)), False])


@settings(max_examples=150)
@given(st.binary(max_size=200), st.integers(1, 9))
def test_any_stream_means_the_same_in_any_pieces(stream: bytes, step: int) -> None:
    BY_NAME["banana"](0).feed([stream, 1, step])
    decoder = Decoder(Budget(64, 4, 2), lambda expression: None)
    try:
        decoder.feed(stream)
    except Violation:
        return
    assert decoder._held <= 64 + 200
