"""A replica's state is read back from its files alone, at any index that they reach."""

import pytest
from chaos_onlooker import digest_at

from twisted_kv.consensus.types import Entry, Ready
from twisted_kv.machines.commands import CONTROLLER_COMMANDS, Enroll, Found
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.rows import Row
from twisted_kv.storage.directory import open_directory

COMMANDS = [Found("cluster", 4, 1000), *(Enroll(bytes([number]) * 16) for number in range(4))]


@pytest.fixture
def directory(tmp_path):
    """Five entries in the log, rows of a checkpoint at the third; and the digest at each index."""
    machine, digests = ControllerMachine(), {}
    entries = tuple(Entry(index, 1, (CONTROLLER_COMMANDS.encode(each),)) for index, each in enumerate(COMMANDS, 1))
    opened = open_directory(str(tmp_path), ballast_bytes=0)
    opened.log.save(Ready(entries=entries))
    for entry in entries:
        machine.apply(entry.index, entry.commands[0])
        digests[entry.index] = machine.digest()
        if entry.index == 3:
            checkpoint = opened.data.checkpoint()
            checkpoint.write([Row(*key, value) for key, value in machine.take_changes().rows.items()])
            checkpoint.commit(3, 1)
    yield tmp_path, digests, opened
    opened.close()


def test_rows_and_the_entries_behind_them(directory):
    path, digests, _ = directory
    assert len(set(digests.values())) == 5
    assert {index: digest_at(path, 0, index) for index in (3, 4, 5)} == {index: digests[index] for index in (3, 4, 5)}


def test_what_the_files_do_not_reach_is_no_digest(directory):
    path, _, _ = directory
    for index in (2, 6):
        with pytest.raises(AssertionError, match=f"wanted {index}"):
            digest_at(path, 0, index)


def test_a_hole_in_the_log_is_no_digest(directory):
    """It began anew behind the rows."""
    path, _, opened = directory
    opened.log.trim(4, 1, 100)
    with pytest.raises(AssertionError, match="wanted 5"):
        digest_at(path, 0, 5)
