"""Extreme limits reach the production classes, and only for one life."""

from twisted.internet.defer import succeed

from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.machines.commands import PULLS, Done, PullRows
from twisted_kv.machines.rows import BEGINNING
from twisted_kv.machines.sessions import Sessions
from twisted_kv.machines.shard import Shard
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.knobs import USUAL, Knobs, draw_knobs
from twisted_kv.transport.wire import PEER_ROWS, ROWS_REQUEST, SHARD_PULL, RowsRequest


class Wire:
    def __init__(self):
        self.sent = []
        self.send = self.close = None

    def call(self, endpoint, verb, body, timeout):
        self.sent.append((verb, body))
        return succeed(b"")


def opened(shard, count):
    for number in range(count):
        shard.sessions.open(b"%d" % number)
    return len(shard.sessions)


def test_session_tables_are_small_while_in_force_and_no_longer():
    with Knobs(sessions_max=2).in_force():
        small = Shard()
    usual = Shard()
    assert (opened(small, 5), opened(usual, 5)) == (2, 5)


def test_answers_have_rows_of_their_own_while_in_force_and_no_longer():
    def rows():
        table = Sessions()
        table.record(table.open(b"n"), 1, 7, Done("x"))
        return len(list(table.rows()))

    with Knobs(inline_bytes=-1).in_force():
        apart = rows()
    assert (apart, rows()) == (3, 2)


def test_a_taker_asks_for_small_chunks():
    wire = Wire()
    network = Knobs(chunk_bytes=250).network(wire)
    network.call("e", SHARD_PULL, PULLS.encode(PullRows(1, 2, BEGINNING, ROWS_CHUNK_BYTES, False)), 1.0)
    network.call("e", PEER_ROWS, ROWS_REQUEST.encode(RowsRequest(1, 2, None, ROWS_CHUNK_BYTES)), 1.0)
    network.call("e", "other", b"as it is", 1.0)
    pull, rows, other = wire.sent
    assert PULLS.decode(pull[1]) == PullRows(1, 2, BEGINNING, 250, False)
    assert ROWS_REQUEST.decode(rows[1]) == RowsRequest(1, 2, None, 250)
    assert other == ("other", b"as it is")
    assert USUAL.network(wire) is wire


def test_every_knob_is_turned_in_some_life_and_all_are_usual_in_others():
    drawn = [draw_knobs(World(seed).random_for("knobs"), (0.0, 0.5)) for seed in range(100)]
    assert USUAL in drawn
    for name in ("chunk_bytes", "sessions_max", "results_max", "inline_bytes", "drift"):
        assert len({getattr(knobs, name) for knobs in drawn}) > 1
    for name in ("election_ticks", "window_messages", "window_bytes", "append_bytes_max", "entry_bytes_max"):
        assert len({getattr(knobs.settings, name) for knobs in drawn}) > 1


def test_a_plan_may_wish_for_small_tables_whatever_else_is_drawn():
    drawn = [draw_knobs(World(seed).random_for("knobs"), (0.0,), (1, 2)) for seed in range(50)]
    assert {knobs.sessions_max for knobs in drawn} == {1, 2}
    assert any(knobs.settings == USUAL.settings for knobs in drawn)


def test_a_plan_may_wish_for_small_chunks_whatever_else_is_drawn():
    drawn = [draw_knobs(World(seed).random_for("knobs"), (0.0,), (), (100, 250)) for seed in range(50)]
    assert {knobs.chunk_bytes for knobs in drawn} == {100, 250}
    assert any(knobs.settings == USUAL.settings for knobs in drawn)


def test_clocks_run_at_rates_within_the_drift():
    random = World(1).random_for("clock")
    rates = [Knobs(drift=0.5).rate(random) for _ in range(100)]
    assert 0.5 <= min(rates) < 0.7 < 1.3 < max(rates) <= 1.5
    assert USUAL.rate(random) == 1.0
