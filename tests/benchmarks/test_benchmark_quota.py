"""Processes are held to a share of a core by control groups of either version."""

from pathlib import Path

import pytest

from benchmarks.children import Failed
from benchmarks.quota import PERIOD_US, Quotas


def told(directory: Path) -> dict[str, str]:
    (made,) = (
        directory.iterdir() if directory.name == "cpu" else [each for each in directory.iterdir() if each.is_dir()]
    )
    return {file.name: file.read_text() for file in made.iterdir()}


def test_by_the_first_version(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    Quotas(0.1, tmp_path).hold({"a": 17})
    limit = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": str(PERIOD_US // 10), "cgroup.procs": "17"}
    assert told(tmp_path / "cpu") == limit


def test_by_the_second_version(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu")
    Quotas(0.5, tmp_path).hold({"a": 17})
    assert told(tmp_path) == {"cpu.max": f"{PERIOD_US // 2} {PERIOD_US}", "cgroup.procs": "17"}


def test_each_process_has_a_group_of_its_own_which_goes_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    quotas = Quotas(0.1, tmp_path)
    quotas.hold({"a": 17, "b": 18})
    made = list((tmp_path / "cpu").iterdir())
    assert len(made) == 2
    for directory in made:
        for file in directory.iterdir():
            file.unlink()  # in a real one they are no files
    quotas.close()
    assert list((tmp_path / "cpu").iterdir()) == []


def test_no_share_no_group(tmp_path: Path) -> None:
    Quotas(0.0, tmp_path).hold({"a": 17})
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="share of a core"):
        Quotas(0.1, tmp_path / "nowhere").hold({"a": 17})
