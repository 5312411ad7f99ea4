import errno
import os

import pytest

from twisted_kv.storage.ballast import Ballast


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ballast")


def test_hazard_28_the_room_is_held_in_real_blocks_and_given_back(path):
    ballast = Ballast(path, 100_000)
    assert not ballast.held
    assert ballast.reserve() and ballast.held
    assert os.stat(path).st_blocks * 512 >= 100_000
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert ballast.reserve()
    ballast.release()
    assert not ballast.held and not os.path.exists(path)
    ballast.release()


def test_hazard_28_no_room_means_no_ballast_and_no_remains(path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ballast = Ballast(path, 1000)
    assert not ballast.reserve()
    assert not os.path.exists(path)


def test_hazard_28_a_disk_with_no_room_for_a_name_is_full_too(path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    assert not Ballast(path, 1000).reserve()


def test_another_error_is_not_taken_for_a_full_disk(path, monkeypatch):
    def broken(_descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input"):
        Ballast(path, 1000).reserve()


def test_a_ballast_cut_short_by_a_crash_is_completed(path):
    with open(path, "wb") as file:
        file.write(bytes(10))
    ballast = Ballast(path, 1000)
    assert not ballast.held
    assert ballast.reserve()
    assert os.path.getsize(path) == 1000


def test_no_ballast_is_always_held(path):
    ballast = Ballast(path, 0)
    assert ballast.held and ballast.reserve()
    ballast.release()
    assert ballast.held and not os.path.exists(path)
