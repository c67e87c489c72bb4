"""How often pairs are compared with each other while the check list is formed, and when a candidate trickles in.

Counted, not timed: these are exact, and hold on any machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from candidates.pairing import PairList
from interop.bench.session import BenchError, Session

PAIRS = 100
LOCAL_CANDIDATES = 10


class Priority(int):
    """A pair's priority that counts when one is compared."""

    comparisons: ClassVar[int] = 0

    def __lt__(self, other: int) -> bool:
        Priority.comparisons += 1
        return int(self) < int(other)

    def __le__(self, other: int) -> bool:
        Priority.comparisons += 1
        return int(self) <= int(other)

    def __gt__(self, other: int) -> bool:
        Priority.comparisons += 1
        return int(self) > int(other)

    def __ge__(self, other: int) -> bool:
        Priority.comparisons += 1
        return int(self) >= int(other)

    def __eq__(self, other: object) -> bool:
        Priority.comparisons += 1
        return int(self) == other

    __hash__ = int.__hash__

    def __neg__(self) -> Priority:
        return Priority(-int(self))


class Pair:
    """As much of a pair as a check list looks at."""

    def __init__(self, number: int, priority: int) -> None:
        self.key = number
        self.priority = Priority(priority)


async def comparisons_forming(session: Session) -> dict[str, Any]:  # noqa: ARG001 - a scenario gets one
    """The most comparisons, in n log2 n of n pairs, that any order of arrival took to form the list, or any change of
    priorities to order it anew."""
    counts = {f"formed, {name}": _forming(priorities) for name, priorities in _orders(PAIRS)}
    counts |= {f"ordered anew, {name}": _ordering(priorities) for name, priorities in _orders(PAIRS)}
    return {"value": max(counts.values()) / (PAIRS * math.log2(PAIRS)), "comparisons": counts}


async def comparisons_trickled(session: Session) -> dict[str, Any]:  # noqa: ARG001 - a scenario gets one
    """The most comparisons that a remote candidate took which pairs with every local one, in n pairs of the list."""
    counts = {name: _trickled(priorities) for name, priorities in _orders(PAIRS + LOCAL_CANDIDATES)}
    return {"value": max(counts.values()) / PAIRS, "comparisons": counts}


def _forming(priorities: list[int]) -> int:
    pairs: PairList[Pair] = PairList(PAIRS)
    before = Priority.comparisons
    _add(pairs, enumerate(priorities))
    return _checked(pairs, Priority.comparisons - before)


def _ordering(priorities: list[int]) -> int:
    pairs: PairList[Pair] = PairList(PAIRS)
    _add(pairs, enumerate(range(PAIRS)))
    for pair, priority in zip(pairs, priorities, strict=True):
        pair.priority = Priority(priority)
    before = Priority.comparisons
    pairs.reprioritise()
    return _checked(pairs, Priority.comparisons - before)


def _trickled(priorities: list[int]) -> int:
    pairs: PairList[Pair] = PairList(PAIRS)
    numbered = list(enumerate(priorities))
    _add(pairs, numbered[:PAIRS])
    before = Priority.comparisons
    _add(pairs, numbered[PAIRS:])
    return _checked(pairs, Priority.comparisons - before)


def _add(pairs: PairList[Pair], numbered: Iterable[tuple[int, int]]) -> None:
    for number, priority in numbered:
        pairs.add(Pair(number, priority))


def _checked(pairs: PairList[Pair], comparisons: int) -> int:
    """``comparisons``, if they gave a list in order."""
    priorities = [int(pair.priority) for pair in pairs]
    if len(priorities) != PAIRS or priorities != sorted(priorities, reverse=True):
        raise BenchError("the list is not in order")
    return comparisons


def _orders(count: int) -> Iterator[tuple[str, list[int]]]:
    ascending = list(range(1, count + 1))
    yield "ascending", ascending
    yield "descending", ascending[::-1]
    for seed in range(5):
        yield f"shuffled {seed}", random.Random(seed).sample(ascending, count)
