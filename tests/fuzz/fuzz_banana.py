"""Target "banana": the decoder alone, fed whole and in pieces.

Judged: the only exception is Violation; what comes out does not depend on where the stream is cut; nothing that
comes out exceeds the budget.
"""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz_messages import GREETING, Strangers
from fuzz_servers import Finding
from fuzz_targets import Target, Verdict
from fuzz_values import broken, one_of, up_to

from twisted_kv.transport.banana import Budget, Decoder, Violation

BUDGETS = (Budget(256, 8, 1), Budget(2000, 12, 8), Budget(1 << 20, 16_384, 16))


class Banana(Target):
    """Streams against the production decoder."""

    name = "banana"
    share = 0.15
    life = 20_000

    def __init__(self, seed: int, life: int = 0) -> None:
        self._strangers: Strangers | None = None

    def draw(self, random: Random) -> list[Any]:
        if self._strangers is None:
            self._strangers = Strangers(random, True, ("1", "2"))
        data = self._strangers.draw()[2]
        if random.random() < 0.2:
            data = broken(random, data)
        if random.random() < 0.2:
            data = GREETING + data
        return [data, one_of(random, (0, 1, 1, 1, *[2] * 12)), 1 + up_to(random, 40)]

    def feed(self, given: list[Any]) -> Verdict:
        data, budget, step = given
        whole, refused = _decoded(data, BUDGETS[budget], len(data) or 1)
        pieces, again = _decoded(data, BUDGETS[budget], step if len(data) < 5000 else 777)
        if repr(whole) != repr(pieces) or refused != again:
            raise Finding(f"whole: {refused or whole!r}; in pieces of {step}: {again or pieces!r}")
        for expression in whole:
            _check(expression, BUDGETS[budget])
        return Verdict(bool(whole), _reason(refused) if refused else "decoded" if whole else "waits for more")


def _decoded(data: bytes, budget: Budget, step: int) -> tuple[list[Any], str]:
    expressions: list[Any] = []
    decoder = Decoder(budget, expressions.append)
    try:
        for start in range(0, len(data), step):
            decoder.feed(data[start : start + step])
    except Violation as error:
        return expressions, str(error)
    if decoder._held > budget.bytes_max + step:
        raise Finding(f"{decoder._held} bytes are held of an expression of at most {budget.bytes_max}")
    return expressions, ""


def _reason(text: str) -> str:
    return " ".join(word for word in text.split() if not any(map(str.isdigit, word)))


def _check(expression: Any, budget: Budget) -> None:
    """No more items, levels and bytes than the budget says."""
    items, level = 0, [expression]
    for depth in range(budget.depth_max + 2):
        lists = [part for part in level if type(part) is list]
        if not lists:
            break
        if depth == budget.depth_max and any(lists):
            raise Finding(f"nested beyond {budget.depth_max}")
        level = [part for each in lists for part in each]
        items += len(level)
    if items > budget.items_max:
        raise Finding(f"{items} items, at most {budget.items_max} are allowed")
