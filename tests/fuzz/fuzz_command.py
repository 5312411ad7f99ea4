"""The command line of the fuzzer: which targets, how many inputs, what is printed and what the exit status says."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from fuzz_banana import Banana
from fuzz_campaign import Tally, TargetType, feed_again, read_saved, run
from fuzz_codec import Codecs
from fuzz_command_line import CommandLine
from fuzz_files import Files
from fuzz_flood import flood
from fuzz_guided import guided, there
from fuzz_parts import Parts
from fuzz_port import Port
from fuzz_servers import Finding

TARGETS: tuple[TargetType, ...] = (Banana, Codecs, Parts, Files, CommandLine, Port)
BY_NAME = {target.name: target for target in TARGETS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0: nothing found, 1: a finding, 130: interrupted."""
    asked = _parser().parse_args(argv)
    if asked.replay is not None:
        return _replay(asked.replay)
    _say(f"seed {asked.seed}")
    if asked.guided:
        return _guided(asked)
    if asked.flood:
        return _flood(asked.flood)
    deadline = time.monotonic() + 60 * asked.minutes
    try:
        tallies = run(shares(asked.inputs, asked.target), asked.seed, asked.findings, deadline, _say)
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    _say(summary(tallies))
    if asked.record is not None:
        _record(asked.record, asked.seed, tallies)
    return int(any(tally.findings for tally in tallies))


def shares(inputs: int, names: Sequence[str] = ()) -> dict[TargetType, int]:
    """Target → how many of the inputs; of all targets if none is named."""
    chosen = [BY_NAME[name] for name in names] or list(TARGETS)
    total = sum(target.share for target in chosen)
    return {target: max(1, round(inputs * target.share / total)) for target in chosen}


def summary(tallies: Sequence[Tally]) -> str:
    """What all targets together have seen."""
    inputs, framed = sum(tally.inputs for tally in tallies), sum(tally.framed for tally in tallies)
    findings = sum(len(tally.findings) for tally in tallies)
    lines = [f"{inputs:,} inputs, {framed:,} of them passed framing, {findings} findings"]
    for tally in tallies:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.reasons.most_common(12))
        lines.append(f"{tally.name}: {reasons}")
    return "\n".join(lines)


def _guided(asked: argparse.Namespace) -> int:
    if not there():
        _say("atheris is not installed: pip install atheris")
        return 2
    kinds = [BY_NAME[name] for name in asked.target or ("banana", "codec")]
    statuses = [guided(kind, asked.inputs // len(kinds), asked.seed, asked.findings.absolute()) for kind in kinds]
    for kind, status in zip(kinds, statuses, strict=True):
        _say(f"{kind.name}: {'nothing found' if status == 0 else f'found something, status {status}'}")
    return int(any(statuses))


def _flood(connections: int) -> int:
    with tempfile.TemporaryDirectory() as directory:
        try:
            flood(Path(directory), connections, _say)
        except Finding as finding:
            _say(f"flood: {finding}")
            return 1
        except KeyboardInterrupt:
            _say("interrupted")
            return 130
    return 0


def _replay(path: Path) -> int:
    try:
        saved = read_saved(path)
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(f"{path} is no saved finding: {error}") from None
    _say(f"{saved.target}: {len(saved.inputs)} inputs; then it was: {saved.text}")
    text = feed_again(saved, BY_NAME[saved.target])
    _say("now: " + (text or "nothing is wrong"))
    return int(text is not None)


def _record(path: Path, seed: int, tallies: Sequence[Tally]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for tally in tallies:
            fields = {
                "seed": seed,
                "target": tally.name,
                "inputs": tally.inputs,
                "framed": tally.framed,
                "worst_ms": round(tally.worst_seconds * 1000, 1),
                "grown_mib": tally.grown_bytes >> 20,
                "cpu_seconds": round(tally.seconds, 1),
                "findings": tally.findings,
                "reasons": dict(tally.reasons.most_common()),
            }
            file.write(json.dumps(fields) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python tests/fuzz/run.py", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, all targets together")
    parser.add_argument("--target", action="append", default=[], choices=sorted(BY_NAME), help="only these")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="stop after this long")
    parser.add_argument("--record", type=Path, metavar="FILE", help="append the figures as JSON lines")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="DIR")
    parser.add_argument("--guided", action="store_true", help="banana and codec, guided by coverage (atheris)")
    parser.add_argument("--flood", type=int, default=0, metavar="N", help="N connections of each kind, nothing else")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed a saved finding again")
    return parser
