"""Constants: the figures that users rely on (contract §6), and the relations that rooms rely on."""

import subprocess
import sys
from pathlib import Path

from twisted_kv import constants
from twisted_kv.constants import (
    CALL_TIMEOUT_SECONDS,
    ELECTION_TICKS,
    KEY_BYTES_MAX,
    MIB,
    SESSION_RESULT_BYTES_MAX,
    SHARDS_DEFAULT,
    SHARDS_MAX,
    TICK_SECONDS,
    VALUE_BYTES_CEILING,
    VALUE_BYTES_DEFAULT,
)
from twisted_kv.machines.commands import GROUP_COMMANDS, Configure, Done, Join, Operation, Write
from twisted_kv.machines.configuration import Configuration, Holder, Member
from twisted_kv.transport.wire import ADMINISTER, ANSWERS, Administer, Outcomes


def test_limits_of_the_contract() -> None:
    """Contract §6."""
    assert KEY_BYTES_MAX == 4096
    assert (VALUE_BYTES_DEFAULT, VALUE_BYTES_CEILING) == (2 * MIB, 16 * MIB)
    assert CALL_TIMEOUT_SECONDS == 10
    assert SHARDS_DEFAULT == 128


def test_a_killed_leader_costs_less_than_a_second() -> None:
    """Contract §6: the longest randomised timeout is below two election timeouts."""
    assert 2 * ELECTION_TICKS * TICK_SECONDS < 1


def test_the_largest_write_fits_into_a_command_and_its_answer_on_the_wire() -> None:
    """A limit that a user may set must not be stopped by another one further down."""
    largest = "v" * VALUE_BYTES_CEILING
    write = Write((Operation("h", "k" * KEY_BYTES_MAX, largest, 2**62, 2**62, 2**62),))
    assert GROUP_COMMANDS.decode(GROUP_COMMANDS.encode(write)) == write
    answer = Outcomes(1, (Done(largest),))
    assert ANSWERS.decode(ANSWERS.encode(answer)) == answer
    assert len(largest) <= SESSION_RESULT_BYTES_MAX


def test_the_largest_configuration_fits_into_a_command() -> None:
    holders = (Holder(2**62, 2**40, 2**40),) * SHARDS_MAX
    members = tuple(Member(gid, 2**40, ("tcp:host.example:7001",) * 5) for gid in range(1000))
    configuration = Configuration(2**40, (2**62,) * SHARDS_MAX, members, holders, holders, members)
    configure = Configure("c" * 32, configuration, True)
    assert GROUP_COMMANDS.decode(GROUP_COMMANDS.encode(configure)) == configure
    join = Administer(1, 1, 1, Join(tuple((gid, ("tcp:host.example:7001",) * 5) for gid in range(1000))))
    assert ADMINISTER.decode(ADMINISTER.encode(join)) == join


def test_a_relation_that_is_broken_is_noticed_on_import() -> None:
    """The asserts at the foot are what keeps the figures together."""
    source = Path(constants.__file__).read_text().replace("= 2 * MIB", "= 32 * MIB", 1)
    broken = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert broken.returncode == 1 and "AssertionError" in broken.stderr
