"""What arguments mean, and which of two said options counts."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner

from twisted_kv.admin import reach
from twisted_kv.admin.reach import Reach


@pytest.mark.parametrize(("given", "value"), [(b" text \n", " text \n"), (b"", ""), (b"\xff\n", b"\xff\n")])
def test_a_dash_reads_standard_input(given: bytes, value: Any) -> None:
    """Contract §2: unstripped; text if it is UTF-8, else bytes."""
    with CliRunner().isolation(input=given):
        assert reach.value_of("-") == value


def test_an_argument_that_is_no_text_is_bytes() -> None:
    assert reach.value_of("a\udcff") == b"a\xff"
    assert reach.value_of("é") == "é"


def test_what_stands_nearer_counts() -> None:
    outer = Reach(("tcp:a:1",), 3.0, False)
    assert outer.over((), None, True) == Reach(("tcp:a:1",), 3.0, True)
    assert outer.over(("tcp:b:1",), 5.0, False) == Reach(("tcp:b:1",), 5.0, False)


def test_groups_are_split_at_the_first_equals_sign() -> None:
    """Contract §1: the pieces go to Twisted unchanged."""
    assert reach.group_of(r"7=tcp:h:1:timeout=3,unix:/a\,b") == (7, ["tcp:h:1:timeout=3", r"unix:/a\,b"])


@pytest.mark.parametrize("text", ["7", "x=tcp:h:1", "7=nonsense:1", "7=tcp:h:1,"])
def test_bad_groups_are_told(text: str) -> None:
    with pytest.raises(click.BadParameter):
        reach.group_of(text)
