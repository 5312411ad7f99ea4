"""Objects as values and back, and values under other names."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from twisted_kv.consensus.raft.messages import AskVote
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.raft.roles import Candidate
from twisted_kv.consensus.types import Restored
from twisted_kv.simulation.explorer.frozen import LATEST, freeze, renamed, thaw

VOTERS = frozenset({1, 2, 3})


def candidate() -> RaftNode:
    core = RaftNode(1, VOTERS, Restored(), LATEST)
    for _ in range(16):
        core.tick()
    return core


def test_a_core_comes_back_as_it_was_and_apart_from_its_value() -> None:
    frozen = freeze(candidate(), {})
    hash(frozen)
    core = thaw(frozen)
    assert freeze(core, {}) == frozen
    assert core.status() == candidate().status()
    core.ready()
    assert freeze(core, {}) != frozen
    assert freeze(thaw(frozen), {}) == frozen


def test_whatever_can_change_is_taken_apart() -> None:
    value = {"b": [1, (2, [3])], "a": deque([{4, 5}])}
    other = thaw(freeze(value, {}))
    assert other == value
    other["b"][1][1].append(6)
    assert value == {"b": [1, (2, [3])], "a": deque([{4, 5}])}
    assert freeze((1, (2, "x")), {}) == (1, (2, "x"))


def test_what_a_table_names_is_frozen_as_it_says() -> None:
    role = Candidate({1})
    assert thaw(freeze(role, {Candidate: {"granted": lambda granted: {9}}})).granted == {9}
    assert freeze([role], {Candidate: lambda role: "one"}) == (list, ("one",))


def test_what_cannot_be_taken_apart_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be taken apart"):
        freeze([iter([])], {})
    odd = Open()
    freeze(odd, {})
    odd.more = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="differ in what they hold"):
        freeze(odd, {})


class Open:
    def __init__(self) -> None:
        self.one = 1


def test_names_are_exchanged_where_names_stand_and_nowhere_else() -> None:
    fields = frozenset({"sender", "to", "granted", "others"})
    swap = {1: 2, 2: 1}
    assert renamed(AskVote(1, 3, 1, 2, 2, False), swap, {}, fields) == AskVote(2, 3, 1, 2, 2, False)
    assert thaw(renamed(freeze(Candidate({1, 3}), {}), swap, {}, fields)).granted == {2, 3}
    assert renamed(b"1", swap, {b"1": b"2"}, fields) == b"2"
    assert renamed(freeze({1: [b"1"]}, {}), swap, {b"1": b"2"}, fields) == freeze({1: [b"2"]}, {})


def test_one_object_stays_one_object() -> None:
    message = AskVote(1, 3, 1, 2, 2, False)
    one, other = renamed((message, message), {1: 2}, {}, frozenset({"sender"}))
    assert one is other and one.sender == 2


def test_chance_draws_the_longest_timeout() -> None:
    assert isinstance(LATEST, Random) and int(LATEST.random() * 8) == 7 and LATEST.getrandbits(4) == 15
