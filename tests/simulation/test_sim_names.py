"""The power fails while a directory is opened: names that nobody synced may go, and the next start copes."""

import os
from functools import partial
from random import Random

import pytest

from twisted_kv.consensus.types import Entry, HardState, Ready
from twisted_kv.errors import StartRefused
from twisted_kv.simulation.doors.names import MOMENTS_MAX, cut_while_opening
from twisted_kv.storage import directory
from twisted_kv.storage.directory import open_directory


class Dice(Random):
    """Says what it was told, then 0.0: everything that can be lost is."""

    def __init__(self, *told):
        super().__init__(0)
        self._told = list(told)

    def random(self):
        return self._told.pop(0) if self._told else 0.0


def moment(number):
    """Dice for which the power fails at this sync."""
    return (number - 0.5) / MOMENTS_MAX


def opened(path):
    return open_directory(str(path), ballast_bytes=0)


@pytest.mark.parametrize("seed", range(60))
def test_a_directory_that_was_being_made_is_made_by_the_next_start(tmp_path, seed):
    """Hazard 35."""
    path = tmp_path / "r"
    cut_while_opening(str(path), Random(seed), partial(opened, path))
    opened(path).close()
    assert {"log.sqlite3", "data.sqlite3"} <= set(os.listdir(path))


@pytest.mark.parametrize("seed", range(20))
def test_a_directory_that_is_there_keeps_what_was_saved(tmp_path, seed):
    first = opened(tmp_path)
    first.log.save(Ready(hard_state=HardState(3, 1), entries=(Entry(1, 3, (b"x",)),)))
    first.close()
    cut_while_opening(str(tmp_path), Random(seed), partial(opened, tmp_path))
    again = opened(tmp_path)
    assert again.log.restore().entries == (Entry(1, 3, (b"x",)),)
    again.close()


def test_everything_that_was_not_synced_is_lost(tmp_path):
    """The first sync of a new directory is that of its parent's names."""
    path = tmp_path / "r"
    lost = cut_while_opening(str(path), Dice(moment(2)), partial(opened, path))
    assert (lost, os.listdir(tmp_path)) == (1, [])


def test_nothing_is_lost_if_the_dice_say_so(tmp_path):
    path = tmp_path / "r"
    keeps = Dice(moment(2), *[0.9] * 20)
    assert cut_while_opening(str(path), keeps, partial(opened, path)) == 0
    assert os.listdir(tmp_path) == ["r"]


def test_an_opening_that_needs_fewer_syncs_ends_in_order(tmp_path):
    opened(tmp_path).close()
    before = sorted(os.listdir(tmp_path))
    assert cut_while_opening(str(tmp_path), Dice(moment(MOMENTS_MAX)), partial(opened, tmp_path)) == 0
    assert sorted(os.listdir(tmp_path)) == before
    opened(tmp_path).close()


def test_names_that_are_not_synced_are_missed(tmp_path, monkeypatch):
    """A program that never syncs its directory comes to lie in pieces."""
    sync = directory._sync
    monkeypatch.setattr(directory, "_sync", lambda path, durable=True: None)
    refused = 0
    for seed in range(40):
        path = tmp_path / str(seed) / "r"

        def opened_at_last(path=path):
            made = opened(path)
            sync(str(path))  # the power fails here at the latest
            return made

        dice = Random(seed)
        dice.random()
        cut_while_opening(str(path), Dice(moment(3), *[dice.random() for _ in range(20)]), opened_at_last)
        try:
            opened(path).close()
        except StartRefused:
            refused += 1
    assert refused
