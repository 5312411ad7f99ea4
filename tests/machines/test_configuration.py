"""Configurations: immutable, and they say who holds what and from whom it comes."""

import dataclasses
import subprocess
import sys
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_kv.machines.configuration import (
    Configuration,
    Holder,
    Member,
    empty_configuration,
    shard_of,
    successor,
)

ONE = Member(1, 1, ("tcp:a:1",))
TWO = Member(2, 2, ("tcp:b:1", "tcp:b:2"))


def test_the_empty_configuration() -> None:
    """Scenario §3.4-45."""
    empty = empty_configuration(10, 500)
    assert (empty.num, empty.shards, dict(empty.groups), empty.value_bytes_max) == (0, (0,) * 10, {}, 500)
    assert empty.holders == empty.sources == (None,) * 10
    assert Configuration() == empty_configuration()


def test_nothing_of_a_configuration_can_be_changed() -> None:
    """Scenario §3.4-42: what was handed out never changes later."""
    configuration: Any = successor(empty_configuration(2), [ONE], (1, 1))
    with pytest.raises(TypeError):
        configuration.groups[1] = ()
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        configuration.num = 7
    for field in (configuration.shards, configuration.members, configuration.holders, configuration.groups[1]):
        assert isinstance(field, tuple)


def test_groups_ascend_and_keep_the_order_of_their_servers() -> None:
    """Scenario §2.3 TestBasic-1: server lists verbatim and in order."""
    configuration = successor(empty_configuration(2), [ONE, Member(2, 1, TWO.endpoints)], (1, 2))
    assert [*configuration.groups] == [1, 2] and configuration.groups[2] == ("tcp:b:1", "tcp:b:2")
    assert configuration.member(2) == Member(2, 1, TWO.endpoints) and configuration.member(3) is None


def test_a_gained_shard_is_pulled_from_its_holder() -> None:
    """Scenario §3.3-32: nobody ever had it: it starts empty; else it comes from the one that had it."""
    first = successor(empty_configuration(2), [ONE], (1, 1))
    assert first.holders == (Holder(1, 1, 1),) * 2 and first.sources == (None, None)
    second = successor(first, [ONE, TWO], (1, 2))
    assert second.holders == (Holder(1, 1, 1), Holder(2, 2, 2))
    assert second.sources == (None, Holder(1, 1, 1))
    third = successor(second, [ONE, TWO], (1, 1))
    assert third.holders[1] == Holder(1, 1, 3) and third.sources[1] == Holder(2, 2, 2)
    assert third.former == ()


def test_parked_data_is_found_again() -> None:
    """Scenario §3.3-32: all groups leave; the last real owner stays known, with its servers."""
    full = successor(empty_configuration(2), [ONE], (1, 1))
    nobody = successor(full, [], (0, 0))
    assert nobody.holders == full.holders and nobody.former == (ONE,)
    other = successor(nobody, [Member(2, 3, TWO.endpoints)], (2, 2))
    assert other.sources == (Holder(1, 1, 1),) * 2 and other.former == (ONE,)
    assert other.endpoints_of(Holder(1, 1, 1)) == ONE.endpoints
    later = successor(successor(other, [Member(2, 3, TWO.endpoints)], (2, 2)), [Member(2, 3, ())], (2, 2))
    assert later.former == (ONE,), "still named as a source"


def test_given_back_to_the_same_member_nothing_moves() -> None:
    """The copy is there already: the holder, and with it the copy's name, stays."""
    full = successor(empty_configuration(2), [ONE], (1, 1))
    parked = successor(full, [ONE], (1, 0))
    assert parked.holders == full.holders
    back = successor(parked, [ONE], (1, 1))
    assert back.holders == full.holders and back.sources == full.sources


def test_a_gid_that_joins_again_is_another_member() -> None:
    """Scenarios §3.3-33, 34: it gains from its own former self, at the servers of that time."""
    nobody = successor(successor(empty_configuration(1), [ONE], (1,)), [], (0,))
    again = Member(1, 3, ("tcp:new:1",))
    back = successor(nobody, [again], (1,))
    assert back.holders == (Holder(1, 3, 3),) and back.sources == (Holder(1, 1, 1),)
    assert back.endpoints_of(Holder(1, 1, 1)) == ONE.endpoints
    assert back.endpoints_of(Holder(1, 3, 3)) == again.endpoints
    assert back.endpoints_of(Holder(9, 9, 9)) == ()


def test_members_nobody_needs_are_forgotten() -> None:
    first = successor(empty_configuration(1), [ONE, Member(2, 1, TWO.endpoints)], (1,))
    second = successor(first, [ONE], (1,))
    assert second.former == (), "it never held anything"


def test_round_trips() -> None:
    configuration = successor(successor(empty_configuration(3), [ONE], (1, 1, 1)), [ONE, TWO], (1, 2, 1))
    for module in (msgspec.msgpack, msgspec.json):
        assert module.decode(module.encode(configuration), type=Configuration) == configuration


@given(st.text(), st.integers(1, 4096))
def test_a_shard_is_in_range_and_follows_the_tag(key: str, shards: int) -> None:
    """Contract §3; scenario §3.5-48."""
    assert 0 <= shard_of(key, shards) < shards
    if "{" not in key:
        assert shard_of(key, shards) == zlib.crc32(key.encode()) % shards


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("a{t}b", "t"),
        ("{t}", "t"),
        ("a{t}b{u}", "t"),
        ("a{{t}b", "{t"),
        ("a}b{t}", "t"),
        ("a{}b{t}", "a{}b{t}"),
        ("a{t", "a{t"),
        ("", ""),
        ("é{ü}", "ü"),
    ],
)
def test_tags(key: str, tag: str) -> None:
    """Contract §3: between the first { and the next }, if not empty."""
    assert shard_of(key, 4096) == zlib.crc32(tag.encode()) % 4096


def test_shards_do_not_depend_on_the_process() -> None:
    """Scenario §3.4-36: no randomised hash() in it."""
    code = "from twisted_kv.machines.configuration import shard_of; print(shard_of('key', 128))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {b"%d\n" % shard_of("key", 128)}
