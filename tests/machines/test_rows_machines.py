"""Rows: their order is the order of streaming, and they cross the wire with their types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_kv.codec import Codec
from twisted_kv.machines import rows as rows_module
from twisted_kv.machines.rows import MACHINE_SHARD, ChangedRows, Row, RowKey

NAMES = st.text(max_size=6)
KEYS = st.builds(RowKey, st.integers(-1, 3), st.integers(0, 3), NAMES, NAMES)
ROWS = st.builds(Row, st.integers(-1, 3), st.integers(0, 3), NAMES, NAMES, st.one_of(st.none(), st.text(), st.binary()))


@given(st.lists(KEYS))
def test_keys_sort_as_their_fields(keys: list[RowKey]) -> None:
    fields = sorted((key.shard, key.num, key.space, key.name) for key in keys)
    assert [(key.shard, key.num, key.space, key.name) for key in sorted(keys)] == fields


@given(ROWS)
def test_a_row_round_trips_with_its_type(row: Row) -> None:
    """Scenario §3.2-17; a str must not come back as bytes."""
    codec: Codec[Row] = Codec(Row)
    copy = codec.decode(codec.encode(row))
    assert copy == row and type(copy.value) is type(row.value)


@given(ROWS)
def test_the_key_of_a_row(row: Row) -> None:
    assert row.key == RowKey(row.shard, row.num, row.space, row.name)


@pytest.mark.parametrize(("value", "size"), [(None, 19), ("abcd", 23), (b"abcd", 23)])
def test_the_size_of_a_row(value: str | bytes | None, size: int) -> None:
    assert Row(1, 2, "key", "abc", value).size == size


def test_the_machine_itself_comes_first() -> None:
    assert RowKey(MACHINE_SHARD, 0, "z", "z") < RowKey(0, 0, "", "")


def test_changed_rows_come_in_the_order_of_their_keys():
    """A store that is written in its own order touches no page twice."""
    rows = {(1, 2, "key", "b"): "1", (1, 2, "key", "a"): None, (-1, 0, "owed", "x"): "2", (1, 2, "copy", ""): "3"}
    changed = ChangedRows.of(rows)
    assert [row.key for row in changed.rows()] == sorted(row.key for row in changed.rows())
    assert list(changed) == sorted(rows)
    assert (len(changed), dict(changed)) == (4, rows)
    assert changed == rows and ChangedRows() == {}
    with pytest.raises(KeyError):
        changed[1, 2, "key", "c"]


def test_changed_rows_are_put_in_order_some_at_a_time(monkeypatch):
    """However many there are, nobody waits for all of them to be sorted."""
    monkeypatch.setattr(rows_module, "RUN_NAMES", 4)
    rows = {(shard, 1, "key", f"{name * 7 % 23:02}"): "v" for shard in (2, 0) for name in range(9)}
    changed = ChangedRows.of(rows)
    assert len(list(changed.arrange())) == 2 * 3
    assert list(changed) == sorted(rows) and dict(changed) == rows
