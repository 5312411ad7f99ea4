"""The example in docs/consensus.md runs as it stands there."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "consensus.md"


def test_the_example_runs():
    """It asserts by itself that all three applied the same."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    assert names["words"] == {node: ["hello", "world"] for node in (1, 2, 3)}


def test_the_page_names_every_verb():
    page = PAGE.read_text()
    for verb in ("tick", "step", "propose", "read", "ready", "advance", "compact", "status"):
        assert f"| `{verb}(" in page
