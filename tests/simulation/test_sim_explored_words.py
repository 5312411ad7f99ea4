"""Messages and events as a person reads them."""

from __future__ import annotations

from typing import Any

import pytest

from twisted_kv.consensus.raft.messages import Append
from twisted_kv.consensus.types import Entry, PeerUnreachable, Position
from twisted_kv.simulation.explorer.words import event_text, message_text

APPEND = Append(1, 2, 3, 1, 1, 0, (Entry(2, 3), Entry(3, 3, (b"1", b"2"))))


def test_a_message_in_one_line() -> None:
    text = message_text(APPEND)
    assert text == "Append 1→2 (term 3, prev_index 1, prev_term 1, commit 0, entries [2/3 3/3:1:2])"


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (("step", APPEND), f"takes {message_text(APPEND)}"),
        (("late", APPEND), f"after a long silence takes {message_text(APPEND)}"),
        (("step", PeerUnreachable(2)), "is told PeerUnreachable(node=2)"),
        (("propose", b"1"), "is given command 1"),
        (("read", 1), "is asked for read 1"),
        (("elapse", "timeout"), "times out"),
        (("crash", False), "crashes and restarts"),
        (("crash", True), "crashes after its save, before its mail, and restarts"),
        (("rows", Position(2, 1)), "gets rows at 2/1"),
        (("rows", None), "does not get the rows"),
        (("saved",), "has saved"),
        (("compact",), "writes a checkpoint and cuts its log"),
    ],
)
def test_an_event_after_the_name_of_its_node(event: tuple[Any, ...], text: str) -> None:
    assert event_text(event) == text
