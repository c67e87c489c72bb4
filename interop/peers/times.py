"""How soon a browser's data channel to us opens over TCP, by what it takes the same page to stock aiortc over UDP.

Seconds count from the answer, set in the page, to its open channel. Exchanges with both take turns in one run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from interop.natlab.namespaces import Run
from interop.natlab.topology import LEFT
from interop.peers.cells import browser, ours, stock
from interop.peers.run import Exchange, run_exchange

ROUNDS: Final = 11
LIMIT: Final = 1.5


@dataclass(frozen=True, slots=True)
class Times:
    """Of both, in seconds, a value for each exchange."""

    ours_over_tcp: tuple[float, ...]
    stock_over_udp: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """By how much longer ours takes, by medians."""
        return median(self.ours_over_tcp) / median(self.stock_over_udp)

    @property
    def is_met(self) -> bool:
        return self.ratio <= LIMIT


async def measure(run: Run, directory: Path, rounds: int = ROUNDS) -> Times:
    """Raises ExchangeError, LabError."""
    page = browser("chromium", camera=True)
    pairs = {
        "ours": Exchange(left=page, right=ours("tcp"), left_offers=True, left_closes=True),
        "stock": Exchange(left=page, right=stock(), left_offers=True, left_closes=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(rounds):
        for name, exchange in pairs.items():
            place = directory / f"{name}-{number}"
            place.mkdir()
            results = await run_exchange(exchange, run.name, place)
            seconds[name].append(results[LEFT]["seconds"])
    return Times(tuple(seconds["ours"]), tuple(seconds["stock"]))


def lines(times: Times) -> Iterator[str]:
    """What people read: min / median / max in ms of both, and the ratio of medians."""
    yield "Chromium, from the answer set to the channel open (ms)"
    for name, values in (
        ("ours over TCP", times.ours_over_tcp),
        ("aiortc over UDP", times.stock_over_udp),
    ):
        yield f"  {name:<18}" + "".join(f"{1000 * each:>9.1f}" for each in (min(values), median(values), max(values)))
    yield f"  {'met' if times.is_met else 'NOT MET'}: ratio of medians {times.ratio:.2f}, limit {LIMIT:g}"
