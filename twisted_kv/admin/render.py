"""What people see: rich tables and progress on a terminal, plain text anywhere else, JSON where it was asked for.

Decides the look and nothing else; every function takes values and writes them.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from twisted_kv.machines.configuration import NO_GROUP, Configuration

MEMBER_COLUMNS = ("node", "role", "term", "leader", "applied", "keys", "bytes", "shards", "migrations", "voter")


def write_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def write_line(text: str) -> None:
    """One line of text; bytes that are no UTF-8 in it come out as they came in."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.buffer.flush()


def write_value(value: str | bytes) -> None:
    """A value as ``get`` prints it: text with a newline, bytes raw and without."""
    if isinstance(value, str):
        write_line(value)
    else:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()


def json_value(value: str | bytes | None) -> dict[str, Any]:
    """The fields by which JSON carries a value.

    >>> json_value("a"), json_value(b"a")
    ({'value': 'a'}, {'value_base64': 'YQ=='})
    """
    if isinstance(value, bytes):
        return {"value_base64": base64.b64encode(value).decode()}
    return {"value": value}


def json_configuration(configuration: Configuration) -> dict[str, Any]:
    """A configuration as JSON carries it; gids are texts there."""
    groups = {str(gid): list(endpoints) for gid, endpoints in configuration.groups.items()}
    return {"num": configuration.num, "shards": list(configuration.shards), "groups": groups}


def write_configuration(configuration: Configuration, as_json: bool) -> None:
    """A configuration: who serves what, and where."""
    if as_json:
        write_json(json_configuration(configuration))
        return
    owned: dict[int, list[int]] = {gid: [] for gid in configuration.groups}
    for shard, gid in enumerate(configuration.shards):
        owned.setdefault(gid, []).append(shard)
    write_line(f"configuration {configuration.num}: {len(configuration.shards)} shards")
    for gid, shards in sorted(owned.items()):
        if gid == NO_GROUP:
            write_line(f"nobody: {len(shards)} shards {spans(shards)}")
        else:
            endpoints = ",".join(configuration.groups[gid])
            write_line(f"group {gid}: {len(shards)} shards {spans(shards)} at {endpoints}")


def spans(numbers: list[int]) -> str:
    """Ascending numbers, neighbours joined.

    >>> spans([0, 1, 2, 5, 7, 8])
    '0-2,5,7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def write_status(report: Mapping[str, Any], as_json: bool) -> None:
    """The state of a cluster as ``admin/asking.cluster_status`` found it."""
    if as_json:
        write_json(report)
        return
    titles = {"controller": report["controller"]}
    titles |= {f"group {gid}": members for gid, members in report["groups"].items()}
    rows = [
        [title, *(cell(member.get(name)) for name in MEMBER_COLUMNS)] for title, ms in titles.items() for member in ms
    ]
    write_table(["", *MEMBER_COLUMNS], rows)
    config = report["config"]
    if config:
        write_line(f"configuration {config['num']}, {len(config['groups'])} groups, {len(config['shards'])} shards")
    for gid, members in report["groups"].items():
        # All of them have what their leader has, a moment later.
        for copy in max((member.get("arriving", []) for member in members), key=_come, default=[]):
            write_line(f"shard {copy['shard']} comes to group {gid} from {copy['from']}: {arrival(copy)}")
    for endpoint in report["unreachable"]:
        write_line(f"unreachable: {endpoint}")


def arrival(copy: Mapping[str, Any]) -> str:
    """How far one copy has come, in words.

    >>> arrival({"bytes": 1_500_000, "total_bytes": 6_000_000, "bytes_per_second": 750_000, "seconds_left": 6.0})
    '1.5 of 6.0 MB, 0.75 MB/s, 6 s left'
    >>> arrival({"bytes": 1_500_000, "total_bytes": 6_000_000})
    '1.5 of 6.0 MB'
    """
    text = f"{copy['bytes'] / 1e6:.1f} of {copy['total_bytes'] / 1e6:.1f} MB"
    if copy.get("bytes_per_second") is not None:
        text += f", {copy['bytes_per_second'] / 1e6:.2f} MB/s"
    if copy.get("seconds_left") is not None:
        text += f", {copy['seconds_left']:.0f} s left"
    return text


def _come(arriving: Sequence[Mapping[str, Any]]) -> int:
    return sum(copy["bytes"] for copy in arriving)


def write_measured(figures: Mapping[str, Any], as_json: bool) -> None:
    """What a bench found."""
    if as_json:
        write_json(figures)
        return
    write_line(f"{figures['ops_per_second']:.0f} ops/s, p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms")
    write_line(f"{figures['operations']} operations in {figures['seconds']:.1f} s, {figures['errors']} errors")


def write_inspected(report: Mapping[str, Any], as_json: bool) -> None:
    """What a replica directory holds."""
    if as_json:
        write_json(report)
        return
    for name, value in report.items():
        if name == "copies":
            write_table(["shard", "num", "keys", "bytes"], [[str(each) for each in copy.values()] for copy in value])
        elif isinstance(value, Mapping):
            write_line(f"{name}: " + ", ".join(f"{key} {cell(each)}" for key, each in value.items()))
        else:
            write_line(f"{name}: {value}")


def cell(value: Any) -> str:
    """A field of a member in a table: a list of shards as spans, what is missing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return spans(sorted(value)) or "-"
    return str(value)


def write_table(header: list[str], rows: list[list[str]]) -> None:
    """A table: drawn by rich on a terminal, else columns of text."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        write_line("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


class Progress(Protocol):
    """Told how far something is."""

    def __call__(self, done: int) -> None: ...


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on standard error if that is a terminal; silence otherwise.

    Args:
        total: how much there is to do; None if nobody knows.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No refreshing thread: the reactor's turns draw it.
    with Bar(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task(title, total=total)

        def told(done: int) -> None:
            bar.update(task, completed=done)
            bar.refresh()

        yield told
