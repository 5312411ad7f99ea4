"""What a door decodes: one kind each, and nothing that costs more than its bytes."""

import pytest

from twisted_kv.codec import Codec, Malformed
from twisted_kv.machines.commands import (
    CHANGES,
    CLAIMS,
    DROPS,
    ENROLLS,
    GROUP_COMMANDS,
    OPENS,
    OPERATIONS_PER_REQUEST_MAX,
    READS,
    WRITES,
    Drop,
    Open,
    Operation,
    Read,
    Write,
)

SEALED = Codec(object)


def sealed_write(value):
    """A Write as nobody of ours would send it."""
    return SEALED.encode(["w", [["p", "k", value, 1, 1, 1]]])


@pytest.mark.parametrize("value", ["text", b"bytes", "", None, "x" * 70_000])
def test_a_write_at_a_door_is_the_command_that_is_logged(value):
    write = Write((Operation("p", "k", value, 1, 2, 1),))
    assert WRITES.decode(GROUP_COMMANDS.encode(write)) == write


@pytest.mark.parametrize("value", [{}, {1: 2}, [], [[]] * 20, {str(number): 0 for number in range(70_000)}])
def test_a_value_that_holds_others_is_refused_before_it_is_made(value):
    """Keys that share one hash would keep a replica busy for minutes (hazards §4, S3)."""
    with pytest.raises(Malformed, match="a value is text or bytes"):
        WRITES.decode(sealed_write(value))


def test_a_request_has_a_bounded_number_of_parts():
    operation = Operation("p", "k", "v", 1, 2, 1)
    most = OPERATIONS_PER_REQUEST_MAX
    assert len(WRITES.decode(WRITES.encode(Write((operation,) * most))).operations) == most
    assert len(READS.decode(READS.encode(Read(("k",) * most))).keys) == most
    for codec, value in (
        (WRITES, Write((operation,) * (most + 1))),
        (READS, Read(("k",) * (most + 1))),
        (OPENS, Open(tuple(range(5000)), bytes(16))),
    ):
        with pytest.raises(Malformed):
            codec.decode(codec.encode(value))


@pytest.mark.parametrize("codec", [WRITES, OPENS, ENROLLS, CHANGES, CLAIMS])
def test_each_door_knows_its_own_command_only(codec):
    with pytest.raises(Malformed):
        codec.decode(DROPS.encode(Drop(1, 2)))
    with pytest.raises(Malformed):
        DROPS.decode(GROUP_COMMANDS.encode(Write(())))


@pytest.mark.parametrize("broken", [["w", [["p", "k"]]], ["w", 7], ["w", [[]]], [], "w", {}])
def test_what_is_no_write_is_malformed_not_an_error_of_the_library(broken):
    with pytest.raises(Malformed):
        WRITES.decode(SEALED.encode(broken))
