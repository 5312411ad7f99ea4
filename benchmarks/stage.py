"""Where a measurement takes place: a directory of results, the processes in it, and an end in order, however it comes.

Decides that servers' data are deleted afterwards, that every process is stopped, and that results are written also of a
run that ended early. Knows no system and no figures.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.children import Children, Failed
from benchmarks.command import Ended
from benchmarks.machine import described
from benchmarks.peers.cluster import version
from benchmarks.report import Table


@dataclass(frozen=True)
class Stage:
    """What a measurement is given.

    Attributes:
        servers: for their data; on the disk that is measured, deleted in the end.
        children: by which every process is started.
    """

    servers: Path
    children: Children

    def told(self, line: str) -> None:
        """A line for whoever waits."""
        click.echo(line, err=True)


@dataclass(frozen=True)
class Found:
    """What came of it, as far as it got.

    Attributes:
        about: lines on what was done.
        samples: everything that was measured, as plain values.
    """

    about: Sequence[str]
    tables: Sequence[Table]
    samples: Any


def play(name: str, out: Path | None, act: Callable[[Stage], object], found: Callable[[], Found]) -> int:
    """Carry out a measurement and write NAME.txt, NAME.md and NAME.json.

    Args:
        out: for results; None: a new directory.
        act: measures, and fills what ``found`` tells of.
    Returns:
        an exit status: 0, 1 when something failed, 128 + a signal's number.
    """
    out = Path(tempfile.mkdtemp(prefix=f"twisted-kv-{name}-")) if out is None else out.resolve()
    servers, logs = out / "servers", out / "logs"
    for directory in (servers, logs):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
    stage, status, trouble = Stage(servers, Children(logs)), 0, []
    machine = described(servers)
    try:
        act(stage)
    except Failed as failed:
        status, trouble = 1, [f"FAILED: {failed}"]
    except Ended as ended:
        status, trouble = 128 + ended.signum, ["the run was ended early"]
    finally:
        stage.children.stop()
        shutil.rmtree(servers, ignore_errors=True)
    told = found()
    about = [*machine.lines(), f"twisted-kv {version()}", *told.about, *trouble]
    text = "\n".join([*about, "", *(table.text() for table in told.tables)])
    markdown = "".join(f"- {line}\n" for line in about) + "".join(f"\n{table.markdown()}" for table in told.tables)
    (out / f"{name}.txt").write_text(text)
    (out / f"{name}.md").write_text(markdown)
    (out / f"{name}.json").write_text(json.dumps({"about": about, "samples": told.samples}, indent=1) + "\n")
    click.echo(f"{text}\nresults: {out}")
    return status
