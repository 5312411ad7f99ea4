"""The record of what clients were told."""

from twisted_kv.simulation.judges.history import NEVER, History


def test_events_are_numbered_in_the_order_of_real_time():
    history = History()
    first = history.begin("a", "append", "k", "x", 0.0)
    second = history.begin("b", "get", "k", None, 0.0)
    history.succeeded(second, "")
    history.succeeded(first, None)
    assert first.invoked < second.invoked < second.returned < first.returned


def test_a_failed_call_leaves_no_trace_and_an_unknown_one_stays_open_ended():
    """Scenario §3.2-20."""
    history = History()
    history.failed(history.begin("a", "put", "k", "x", 0.0))
    unknown = history.begin("a", "put", "k", "y", 0.0)
    history.unknown(unknown)
    assert history.by_key() == {"k": [unknown]}
    assert unknown.returned == NEVER
    assert not unknown.known
    assert history.failed_count == 1


def test_calls_that_have_not_come_back_are_open():
    """Scenario §2.2: nothing may hang."""
    history = History()
    hanging = history.begin("a", "get", "k", None, 0.0)
    history.succeeded(history.begin("b", "get", "j", None, 0.0), None)
    assert history.open == [hanging]
    assert len(history) == 2


def test_each_event_is_told_with_its_number():
    told = []
    history = History(lambda who, what: told.append((who, what)))
    history.succeeded(history.begin("a", "put", "k", "v" * 100, 0.0), None)
    history.failed(history.begin("a", "get", "k", None, 0.0))
    history.unknown(history.begin("b", "delete", "k", None, 0.0))
    shown = f"'{'v' * 40}…'"
    assert told == [
        ("a", f"[1 put(k, {shown})"),
        ("a", f"[1 put(k, {shown}) 2] -> None"),
        ("a", "[3 get(k)"),
        ("a", "[3 get(k) failed]"),
        ("b", "[4 delete(k)"),
        ("b", "[4 delete(k) unknown]"),
    ]
