"""Keys in and out as JSON lines: ``load`` and ``dump``.

A line is ``{"key": …, "value": …}``, or ``"value_base64"`` for bytes. Decides how much is in flight and that a key
which stands twice ends with its last value. A dump reads shard by shard: each chunk is linearizable, all of it is no
snapshot of one moment. Knows nothing of files and terminals.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from twisted_kv.admin.render import json_value
from twisted_kv.admin.running import Refusal, together
from twisted_kv.constants import ROWS_CHUNK_BYTES
from twisted_kv.errors import KVError
from twisted_kv.machines.commands import Scanned
from twisted_kv.machines.configuration import Configuration

PUTS_AT_ONCE = 256


class IClerk(Protocol):
    """A Clerk, as far as load and dump need it."""

    def put(self, key: str, value: str | bytes, *, timeout: float) -> Deferred[None]: ...
    def scan(self, shard: int, after: str | None, bytes_max: int, *, timeout: float) -> Deferred[Scanned]: ...


async def load(clerk: IClerk, lines: Iterable[str | bytes], timeout: float, told: Callable[[int], None]) -> int:
    """Put what the lines say.

    Args:
        timeout: of each put, in seconds.
        told: called with how many lines are in.
    Returns:
        how many lines.
    Raises:
        Refusal: a line that cannot be read; those before it are in.
        KVError: what became of the first put that failed; its text names the key's line.
    """
    done = 0
    numbered = enumerate(lines, 1)
    while chunk := list(islice(numbered, PUTS_AT_ONCE)):
        batch: dict[str, tuple[int, str | bytes]] = {}
        for number, line in chunk:
            if not line.strip():
                continue
            try:
                key, value = parsed(line)
            except ValueError as error:
                await _put_all(clerk, batch, timeout)
                raise Refusal(f"line {number}: {error}; the lines before it are loaded") from None
            batch[key] = (number, value)
        await _put_all(clerk, batch, timeout)
        done += len(chunk)
        told(done)
    return done


async def _put_all(clerk: IClerk, batch: dict[str, tuple[int, str | bytes]], timeout: float) -> None:
    async def put(key: str, number: int, value: str | bytes) -> None:
        try:
            await clerk.put(key, value, timeout=timeout)
        except KVError as error:
            raise type(error)(f"line {number}: {error.text}") from None

    await together([Deferred.fromCoroutine(put(key, *rest)) for key, rest in batch.items()])


async def dump(
    clerk: IClerk,
    configuration: Configuration,
    write: Callable[[str], Any],
    timeout: float,
    told: Callable[[int], None],
) -> int:
    """Write every key as a line.

    Args:
        configuration: a recent one.
        write: takes a line with its newline.
        timeout: of each chunk, in seconds.
        told: called with how many shards are out.
    Returns:
        how many keys.
    """
    count = 0
    for shard, holder in enumerate(configuration.holders):
        # Nobody ever owned it, so there is nothing in it and nobody to ask.
        if holder is not None:
            async for key, value in scanned(clerk, shard, timeout):
                write(json.dumps({"key": key, **json_value(value)}, ensure_ascii=False) + "\n")
                count += 1
        told(shard + 1)
    return count


async def scanned(clerk: IClerk, shard: int, timeout: float) -> AsyncIterator[tuple[str, str | bytes]]:
    """The keys of one shard in order, with their values."""
    after: str | None = None
    while True:
        chunk = await clerk.scan(shard, after, ROWS_CHUNK_BYTES, timeout=timeout)
        for key, value in zip(chunk.keys, chunk.values, strict=True):
            yield key, value
        if chunk.last or not chunk.keys:
            return
        after = chunk.keys[-1]


def parsed(line: str | bytes) -> tuple[str, str | bytes]:
    """Key and value of one line.

    Raises:
        ValueError: it is no such line; the text says why.

    >>> parsed('{"key": "a", "value_base64": "YQ=="}')
    ('a', b'a')
    """
    try:
        fields = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
        raise ValueError('no "key"')
    kinds = fields.keys() - {"key"}
    if kinds == {"value"} and isinstance(fields["value"], str):
        return fields["key"], fields["value"]
    if kinds == {"value_base64"} and isinstance(fields["value_base64"], str):
        try:
            return fields["key"], base64.b64decode(fields["value_base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f'"value_base64": {error}') from None
    raise ValueError('beside "key" there is one text: "value" or "value_base64"')
