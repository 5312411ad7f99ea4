"""What a taker is given, chunk by chunk, is the copy as it stands in the end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from machine_scripts import filled

from twisted_kv.machines.commands import Done, Operation
from twisted_kv.machines.giving import RUN_KEYS, Giving
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.machines.shard import KEY_SPACE, Shard

LIMIT = 1000


def carried(giver, bytes_max=10**6, meanwhile=lambda: None):
    """Chunk by chunk into a new copy, as long as there is anything; ``meanwhile`` happens after each."""
    taker, giving, cursor, level = Shard(), Giving(3, 5, giver), BEGINNING, False
    chunks = []
    while not level:
        while not giving.prepare():
            pass
        rows, cursor, level = giving.chunk(cursor, bytes_max)
        assert len(rows) <= 1 or sum(row.size for row in rows) <= bytes_max
        chunks.append(rows)
        taker.install(rows)
        meanwhile()
        level = level and cursor.since == giver.changes
    taker.complete()
    return taker, chunks


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 400), st.integers(0, 30))
def test_chunks_carry_everything_hazard_41(bytes_max, count):
    """Hazards 32, 41: keys and sessions, in order, about bytes_max at a time, and equal after the move."""
    giver = filled(count)
    taker, chunks = carried(giver, bytes_max)
    seen = [(row.space, row.name) for rows in chunks for row in rows]
    assert seen == sorted(set(seen))
    assert (taker.data, taker.bytes, taker.digest()) == (giver.data, giver.bytes, giver.digest())
    retry = Operation("h", "bytes", "x", 1, count + 2, 1)
    assert taker.execute(retry, LIMIT) == Done(b"\xff\x00"), "the answer travels with the shard"


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 600), st.lists(st.tuples(st.sampled_from("padho"), st.integers(0, 12)), max_size=40))
def test_a_copy_that_is_written_to_is_carried_whole(bytes_max, writes):
    """Decisions/0007: whatever is put, appended, deleted, hashed, opened between the chunks, also of large values."""
    giver = filled(8)
    giver.watch()
    left = list(writes)
    sequence = [20]

    def write():
        if not left:
            return
        verb, number = left.pop()
        if verb == "o":
            giver.sessions.open(bytes([number]) * 16)
            return
        sequence[0] += 1
        value = None if verb == "d" else "w" * (200 * number if verb == "p" else 1)
        giver.execute(Operation(verb, f"é{number}", value, 1, sequence[0], sequence[0] - 3), LIMIT)

    taker, _ = carried(giver, bytes_max, write)
    assert not left or bytes_max >= 1
    assert (taker.data, taker.bytes) == (giver.data, giver.bytes)
    assert list(taker.sessions.rows()) == list(giver.sessions.rows())
    taken = [row for named in taker.take().values() for row in named.items()]
    assert {name: value for name, value in taken if value is not None} == {
        **giver.data,
        **dict(giver.sessions.rows()),
    }


def test_a_cursor_means_the_same_to_every_replica_of_the_giver():
    """Decisions/0007: one was restarted from its rows, another sorted later; each goes on where the other ended."""
    giver = filled(9)
    giver.watch()
    again = Shard()
    again.watch()
    first = Giving(3, 5, giver)
    assert first.prepare()
    rows, cursor, _ = first.chunk(BEGINNING, 60)
    taker = Shard()
    taker.install(rows)
    giver.execute(Operation("d", "é1", None, 1, 30, 1), LIMIT)
    giver.execute(Operation("p", "é8", "new", 1, 31, 1), LIMIT)
    for space, named in sorted(giver.take().items()):
        for name, value in sorted(named.items()):
            if value is not None:
                again.load(space, name, value)
    assert again.digest() == giver.digest()
    for copy in (again, giver, again):
        giving = Giving(3, 5, copy)
        assert giving.prepare()
        rows, cursor, level = giving.chunk(cursor, 10**6)
        taker.install(rows)
    assert level and cursor.since == giver.changes == again.changes
    taker.complete()
    assert (taker.data, list(taker.sessions.rows())) == (giver.data, list(giver.sessions.rows()))


def test_many_keys_are_sorted_in_several_turns():
    """Issue of stalls: no turn sorts more than RUN_KEYS."""
    shard = Shard()
    names = [f"{number * 7919 % 50_021}" for number in range(2 * RUN_KEYS + 1)]
    for name in names:
        shard.load(KEY_SPACE, name, "")
    giving = Giving(3, 5, shard)
    assert [giving.prepare() for _ in range(3)] == [False, False, True]
    rows, _, level = giving.chunk(BEGINNING, 1 << 30)
    assert level and [row.name for row in rows] == sorted(names)


def test_whoever_goes_on_with_the_walk_the_rounds_miss_nothing():
    """Decisions/0007: a successor that has not applied all, and one that begins to give when all has changed."""
    giver, behind, late, taker = filled(9), filled(9), filled(9), Shard()
    for copy in (giver, behind, late):
        copy.watch()
    changes = [Operation("p", "é4", "new", 1, 30, 1), Operation("d", "é0", None, 1, 31, 1)]
    giver.execute(changes[0], LIMIT)
    cursor = BEGINNING
    for copy, bytes_max in ((giver, 100), (behind, 90), (late, 10**6), (giver, 10**6)):
        if copy is late:
            giver.execute(changes[1], LIMIT)
            for change in changes:
                late.execute(change, LIMIT)
        giving = Giving(3, 5, copy)
        assert giving.prepare()
        rows, cursor, level = giving.chunk(cursor, bytes_max)
        assert rows
        taker.install(rows)
    assert level and cursor.since == giver.changes == late.changes > behind.changes == 0
    taker.complete()
    assert (taker.data, list(taker.sessions.rows())) == (giver.data, list(giver.sessions.rows()))
