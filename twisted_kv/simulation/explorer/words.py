"""Messages and events of a small world in words, for the path to what is wrong. It decides nothing."""

from __future__ import annotations

from typing import Any

from twisted_kv.consensus.types import Entry


def message_text(message: Any) -> str:
    """A message in one line, as ``Kind sender→to (what it says)``."""
    fields = [name for name in message.__struct_fields__ if name not in ("sender", "to")]
    said = ", ".join([f"{name} {_value_text(getattr(message, name))}" for name in fields])
    return f"{type(message).__name__} {message.sender}→{message.to} ({said})"


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + " ".join([_value_text(item) for item in value]) + "]"
    if isinstance(value, Entry):
        return f"{value.index}/{value.term}" + "".join([f":{command.decode()}" for command in value.commands])
    return str(value)


def event_text(event: tuple[Any, ...]) -> str:
    """An event, to be read after the name of the node that it happens to."""
    kind, *rest = event
    if kind in ("step", "late"):
        after = "after a long silence " if kind == "late" else ""
        if hasattr(rest[0], "sender"):
            return f"{after}takes {message_text(rest[0])}"
        return f"is told {rest[0]}"
    if kind == "elapse":
        return {
            "timeout": "times out",
            "heartbeat": "sends heartbeats",
            "silence": "has heard nobody for an election timeout",
        }[str(rest[0])]
    if kind == "propose":
        return f"is given command {rest[0].decode()}"
    if kind == "read":
        return f"is asked for read {rest[0]}"
    if kind == "crash":
        return "crashes after its save, before its mail, and restarts" if rest[0] else "crashes and restarts"
    if kind == "rows":
        return "does not get the rows" if rest[0] is None else f"gets rows at {rest[0].index}/{rest[0].term}"
    return {"saved": "has saved", "compact": "writes a checkpoint and cuts its log"}[kind]
