"""docs/protocol.md says what the code does."""

import re
from pathlib import Path

import pytest

from twisted_kv.constants import KIB, MIB, OUTBOX_BYTES_MAX, WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.service.plain import controller_names, group_names
from twisted_kv.transport import chunks, wire
from twisted_kv.transport.banana import PREFIX_MAX
from twisted_kv.transport.broker import GREETING, LIMITS, REQUEST, UNREAD_BY_OURS_BYTES
from twisted_kv.transport.chunks import PARTS_IN_FLIGHT, RESERVE_BYTES, UNFINISHED_MAX, UNTOUCHED_SECONDS
from twisted_kv.transport.links import PATIENCE
from twisted_kv.transport.listening import HOSPITALITY

DOC = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()
ROWS = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in DOC.splitlines() if line[:1] == "|"]


def told(module):
    """Verb → what its module says of it, from ``NAME = "verb"  # there → back``."""
    source = Path(module.__file__).read_text()
    pattern = r'^[A-Z_]+(?:: Final)? = "(?P<verb>[a-z_]+)"  # (?P<bodies>[^:\n]+)'
    return {found["verb"]: found["bodies"].strip() for found in re.finditer(pattern, source, re.MULTILINE)}


@pytest.mark.parametrize(("module", "prefixes"), [(wire, "peer shard kv ctl who"), (chunks, "wire")])
def test_the_tables_list_every_verb_with_its_bodies_and_no_other(module, prefixes):
    """House: docs that fail tests when something is missing."""
    listed = {
        row[0].strip("`"): row[1].replace("\\|", "|")
        for row in ROWS
        if row[0].strip("`").split("_")[0] in prefixes.split()
    }
    assert listed == told(module)


def test_every_verb_constant_is_told():
    constants = {value for name, value in vars(wire).items() if name.isupper() and isinstance(value, str)}
    assert constants == told(wire).keys()


def test_the_plain_names_and_their_arguments_are_those_of_the_servers():
    """Contract §4."""
    import inspect

    table = {row[0]: row[1] for row in ROWS}
    for server, names in (("group", group_names(None)), ("controller", controller_names(None))):
        listed = dict(re.findall(r"`(\w+)\(([^)]*)\)`", table[server]))
        listed.pop("status")
        assert listed == {name: ", ".join(inspect.signature(function).parameters) for name, function in names.items()}


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("greeting", (f"{GREETING.bytes_max} bytes", f"{GREETING.items_max} items", f"{GREETING.depth_max} level")),
        ("time for", (f"{HOSPITALITY.greeting_seconds:g} s",)),
        (
            "request",
            (f"{REQUEST.bytes_max // MIB} MiB", f"{REQUEST.items_max:,} items", f"{REQUEST.depth_max} levels"),
        ),
        ("integer", (f"{PREFIX_MAX} digits",)),
        ("calls in flight", (f"{LIMITS.calls_max:,} calls", f"{LIMITS.call_bytes_max // MIB} MiB")),
        ("body", (f"{WIRE_BODY_BYTES_MAX / MIB:g} MiB",)),
        ("unfinished", (f"{UNFINISHED_MAX} each way", f"{RESERVE_BYTES / MIB:g} MiB")),
        (
            "answers unread per",
            (
                f"above {LIMITS.reading_stops_bytes // MIB} MiB",
                f"above {LIMITS.unread_bytes_max // MIB} MiB for {LIMITS.unread_seconds:g} s",
                f"or {LIMITS.unread_bytes_ceiling // MIB} MiB",
            ),
        ),
        (
            "answers unread on",
            (f"{LIMITS.unread_bytes_together // MIB} MiB", f"more than {UNREAD_BY_OURS_BYTES // KIB} KiB"),
        ),
        ("answers unread and", (f"{HOSPITALITY.stuck_seconds:g} s",)),
        ("a request begun", (f"{HOSPITALITY.stuck_seconds:g} s",)),
        ("silence", (f"{HOSPITALITY.idle_seconds / 60:g} min",)),
        ("connections per", (f"{HOSPITALITY.connections_max}",)),
        ("taken for", (f"{OUTBOX_BYTES_MAX // MIB} MiB",)),
    ],
)
def test_the_budgets_are_those_of_the_code(row, figures):
    (limit,) = [cells[1] for cells in ROWS if len(cells) == 3 and cells[0].startswith(row)]
    for figure in figures:
        assert figure in limit


def test_the_prose_has_the_figures_of_the_code():
    prose = " ".join(DOC.split())
    assert f"parts of {WIRE_PART_BYTES // KIB} KiB, with at most two parts in flight" in prose and PARTS_IN_FLIGHT == 2
    assert f"when untouched for {UNTOUCHED_SECONDS:g} s" in prose
    assert f"grow from {PATIENCE.retry_first:g} s to {PATIENCE.retry_max:g} s" in prose
    assert f"closed after {PATIENCE.idle:g} s without use" in prose
    assert f"within {PATIENCE.greeting:g} s is given up" in prose
    assert f"hears nothing for {PATIENCE.silence:g} s" in prose
    assert f"torn down {PATIENCE.sign:g} s later" in prose
