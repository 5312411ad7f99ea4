"""Faults planted on purpose, one line each, to see whether the hunt bites.

A plant changes the source of one module as it is imported, in this process only; a plant whose line is gone says so.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Final, NamedTuple


class Plant(NamedTuple):
    """One replacement in the source of one module."""

    module: str
    old: str
    new: str


PLANTS: Final = {
    # A commit is not synced: the power takes what was acknowledged (hazards 1, 16).
    "normal": Plant("twisted_kv.storage.sqlite_file", "wanted = _SYNCHRONOUS[synchronous]", "wanted = 1"),
    # Answered, sent and applied before the save (hazards 1, 16, 17).
    "early": Plant(
        "twisted_kv.replica.replica",
        "            self._save(ready)\n        else:",
        "            self._saved(None, ready)\n"
        "            self._disk.run(partial(self._log_store.save, ready))\n        else:",
    ),
    # An install empties the log before the rows are durable (hazards 31, 33).
    "log-first": Plant(
        "twisted_kv.replica.checkpoints",
        "        await run(partial(checkpoint.commit, answer.index, answer.term))\n"
        "        await self._log_disk.run(partial(self._log_store.reset, answer.index, answer.term))\n",
        "        await self._log_disk.run(partial(self._log_store.reset, answer.index, answer.term))\n"
        "        await run(partial(checkpoint.commit, answer.index, answer.term))\n",
    ),
    # A member starts without the rows that its directory holds (hazard 19).
    "unread-rows": Plant(
        "twisted_kv.replica.member",
        "            parts.machine.load(rows)\n",
        "            parts.machine.load(())\n",
    ),
    # The names of a new directory's files are not synced before they are renamed (hazard 35).
    "unsynced-names": Plant(
        "twisted_kv.storage.directory",
        "            _write(file + _UNFINISHED, image(kind), durable)\n        _sync(path, durable)\n",
        "            _write(file + _UNFINISHED, image(kind), False)\n        _sync(path, durable)\n",
    ),
    # Any failure of a save counts as a definite no (hazard 27).
    "definite": Plant(
        "twisted_kv.storage.sqlite_file",
        "            if is_disk_full(error):\n                self.move_wal(",
        "            if isinstance(error, sqlite3.Error):\n"
        "                raise SaveRefused(str(error)) from error\n"
        "            if is_disk_full(error):\n                self.move_wal(",
    ),
}


def plant(name: str) -> None:
    """Put a fault in, before anything else has imported its module."""
    module, old, new = PLANTS[name]
    assert module not in sys.modules, f"{module} is imported already"
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None and spec.loader is not None
    with open(spec.origin, encoding="utf-8") as file:
        source = file.read()
    assert source.count(old) == 1, f"{name}: its line stands {source.count(old)} times in {module}"
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    exec(compile(source.replace(old, new), spec.origin, "exec"), made.__dict__)
    parent, _, leaf = module.rpartition(".")
    setattr(sys.modules[parent], leaf, made)
