"""The model of a disk: what may be missing after a crash, and what may not."""

from random import Random

import pytest
from crash_disk import Disk, Picture
from crash_recording import CREATED, EMPTIED, Record


class Script:
    """A disk that is told in words."""

    def __init__(self):
        self.disk = Disk()

    def __call__(self, kind, payload=b"", fd=3, at=0, flags=0):
        body = payload if isinstance(payload, bytes) else payload.encode()
        return self.disk.take(Record(kind, flags, 1, fd, at, body))

    def create(self, path, fd=3):
        self("O", path, fd=fd, flags=CREATED)

    def found(self, count_max=1_000):
        """Every picture that may be found, as sorted items."""
        pictures = [self.disk.picture(subset) for subset in self.disk.subsets(Random(1), count_max)]
        return {tuple(sorted(picture.files.items())) for picture in pictures}


@pytest.fixture
def script():
    return Script()


def durable(script, path="f", content=b"old"):
    """A file whose content and name are on the disk."""
    script("O", "", fd=9)
    script.create(path)
    script("W", content)
    script("S")
    script("S", fd=9)


def test_what_was_synced_is_there(script):
    durable(script)
    assert script.found() == {(("f", b"old"),)}


def test_a_file_is_gone_until_its_name_is_synced(script):
    script.create("f")
    script("W", b"x")
    script("S")
    assert script.found() == {(), (("f", b"x"),)}


def test_any_part_of_what_was_not_synced_may_be_missing(script):
    durable(script, content=b"....")
    script("W", b"a", at=0)
    script("W", b"b", at=1)
    script("W", b"c", at=3)
    contents = {dict(items)["f"] for items in script.found()}
    assert {b"....", b"ab.c", b"a...", b".b..", b"...c", b"ab..", b".b.c", b"a..c"} == contents


def test_later_writes_stand_over_earlier_ones(script):
    durable(script, content=b"....")
    script("W", b"aa")
    script("W", b"b")
    assert {dict(items)["f"] for items in script.found()} == {b"....", b"ba..", b"aa..", b"b..."}


def test_a_truncate_and_what_follows_it(script):
    durable(script, content=b"12345")
    script("T", at=2)
    script("W", b"x", at=3)
    assert {dict(items)["f"] for items in script.found()} == {b"12345", b"12\0x", b"12", b"123x5"}


def test_opening_for_writing_anew_empties(script):
    durable(script)
    script("O", "f", fd=5, flags=EMPTIED)
    assert {dict(items)["f"] for items in script.found()} == {b"old", b""}


def test_a_write_is_torn_at_sectors_and_pages(script):
    durable(script, content=b"." * 5_000)
    script("W", b"x" * 4_800, at=100)
    torn = {dict(items)["f"].count(b"x") for items in script.found()}
    assert {0, 4_800, 412, 924, 3_996} <= torn
    assert all(count in (0, 4_800) or (count - 412) % 512 == 0 or (4_800 - count - 412) % 512 == 0 for count in torn)


def test_names_are_lost_in_any_order(script):
    durable(script, "a", b"1")
    script.create("b", fd=4)
    script("W", b"2", fd=4)
    script("S", fd=4)
    script("S", fd=9)
    script("R", "a\0c")
    script("R", "b\0d")
    names = {tuple(path for path, _ in items) for items in script.found()}
    assert names == {("a", "b"), ("b", "c"), ("a", "d"), ("c", "d")}
    script("S", fd=9)
    assert script.found() == {(("c", b"1"), ("d", b"2"))}


def test_an_unlink_may_be_undone(script):
    durable(script)
    script("U", "f")
    assert script.found() == {(), (("f", b"old"),)}


def test_nothing_stands_in_a_directory_that_is_not_there(script):
    script("D", "d")
    script("O", "d", fd=8)
    script.create("d/f")
    script("W", b"x")
    script("S")
    script("S", fd=8)
    assert script.found() == {(), (("d", None), ("d/f", b"x"))}


def test_a_failed_sync_is_not_made_good_by_the_next(script):
    durable(script, content=b"....")
    script("W", b"a")
    script("s")
    script("W", b"b", at=3)
    script("S")
    assert {dict(items)["f"] for items in script.found()} == {b"...b", b"a..b"}


def test_what_is_written_again_after_a_failed_sync_is_made_good(script):
    durable(script, content=b"....")
    script("W", b"aaa")
    script("s")
    script("W", b"bb", at=1)
    script("S")
    assert {dict(items)["f"] for items in script.found()} == {b".bb.", b"abb."}


def test_only_what_changes_something_is_a_crash_point(script):
    script("O", "", fd=9)
    script.create("f")
    assert script("W", b"x")
    assert script("S")
    assert not script("S")
    assert not script("O", "f", fd=4)


def test_none_and_all_are_always_looked_at(script):
    durable(script, content=b"." * 20)
    for at in range(20):
        script("W", b"x", at=at)
    subsets = script.disk.subsets(Random(1), 10)
    assert len(subsets) == 10 and len(set(subsets)) == 10
    contents = {script.disk.picture(subset).files["f"] for subset in subsets}
    assert {b"." * 20, b"x" * 20} <= contents


def test_a_picture_is_told_by_its_names_and_bytes():
    pictures = [{"a": b"1"}, {"a": b"2"}, {"b": b"1"}, {"a": None}, {"a": b""}, {"a": b"1", "b": b""}]
    assert len({Picture(files).digest() for files in pictures}) == len(pictures)
