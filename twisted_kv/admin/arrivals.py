"""How fast shards arrive at a group, and when they will be there: from two looks at one of its members.

Servers say how much has come and how much there is; a rate needs two looks, and whoever looks has a clock. Knows
neither network nor clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def with_rates(first: Mapping[str, Any], second: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The second look at a member, with the pace of each copy that was arriving at both.

    Args:
        first, second: what the member said of itself (machines/group, ``status``).
        seconds: from the one to the other.
    Returns:
        the second one; each of its ``arriving`` has ``bytes_per_second`` and ``seconds_left``, None where unknown.
    """
    had = {copy["shard"]: copy["bytes"] for copy in first.get("arriving", ())}
    paced = [{**copy, **_pace(copy, had.get(copy["shard"]), seconds)} for copy in second.get("arriving", ())]
    return {**second, "arriving": paced}


def _pace(copy: Mapping[str, Any], had: int | None, seconds: float) -> dict[str, Any]:
    if had is None or copy["bytes"] <= had:
        return {"bytes_per_second": None if had is None else 0, "seconds_left": None}
    pace = (copy["bytes"] - had) / seconds
    missing = max(copy["total_bytes"] - copy["bytes"], 0)
    return {"bytes_per_second": round(pace), "seconds_left": round(missing / pace, 1)}
