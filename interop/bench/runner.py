"""Runs figures: rounds of all take turns, in each samples of both sides alternate; then the verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from interop.bench.figures import Better, Bound, Figure, Ratio, Variant
from interop.bench.session import BenchError
from interop.bench.task import Task, run_in_fresh_interpreter

Run = Callable[[Task], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Side:
    """The samples of one side in one variant, in the order in which they were taken, with what came along."""

    subject: str
    results: tuple[dict[str, Any], ...]

    @property
    def samples(self) -> tuple[float, ...]:
        return tuple(float(result["value"]) for result in self.results)

    @property
    def median(self) -> float:
        return median(self.samples)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """One variant of a figure."""

    figure: Figure
    variant: Variant
    subject: Side
    peer: Side | None

    @property
    def score(self) -> float:
        """How good it is, by medians; at least 1 meets the demand: the ratio by its floor, the limit by the value."""
        demand = self.figure.demand
        if isinstance(demand, Bound):
            return demand.limit / self.subject.median if self.subject.median else float("inf")
        return self.ratio / demand.floor

    @property
    def ratio(self) -> float:
        """How many times better than the peer. Raises ValueError for a figure without peer."""
        if self.peer is None:
            raise ValueError(f"{self.figure.name} has no peer")
        better, worse = self.subject.median, self.peer.median
        return better / worse if self.figure.better is Better.HIGHER else worse / better


@dataclass(frozen=True, slots=True)
class FigureResult:
    """All variants of a figure: the worst one counts."""

    figure: Figure
    variants: tuple[VariantResult, ...]

    @property
    def worst(self) -> VariantResult:
        return min(self.variants, key=lambda variant: variant.score)

    @property
    def met(self) -> bool:
        return self.worst.score >= 1.0


class Measurement:
    """Takes the samples of all variants of a figure, a round at a time, so that rounds of others come in between.

    A slow phase of the machine, which may last minutes, meets few rounds of a figure then, and no median.
    """

    def __init__(self, figure: Figure, *, rounds: int, quick: bool, run: Run = run_in_fresh_interpreter) -> None:
        """``rounds`` is an odd number; a figure may want fewer."""
        self.figure = figure
        self.rounds = min(rounds, figure.rounds or rounds)
        self._run = run
        self._options: dict[str, object] = {**figure.options, **(figure.quick if quick else {})}
        self._taken: dict[Variant, dict[str, list[dict[str, Any]]]] = {
            variant: {subject: [] for subject in _subjects(figure)} for variant in figure.variants
        }

    async def take(self, number: int, turn: tuple[str, int] | None = None) -> None:
        """Take a sample of both sides in each variant. Raises BenchError.

        ``turn`` is the address of the server of a figure that is relayed.
        """
        figure, options = self.figure, self._options
        if figure.relayed_by is not None:
            if turn is None:
                raise BenchError("there is no server to relay it")
            options = options | {"turn": [*turn, figure.relayed_by]}
        for variant, taken in self._taken.items():
            # Who is first alternates, so that a slow phase of the machine meets both alike
            for subject in list(taken)[:: -1 if number % 2 else 1]:
                task = Task(figure.scenario, subject, variant.processes, options, variant.malloc)
                taken[subject].append(await self._run(task))

    def result(self) -> FigureResult:
        """What was taken so far."""
        return FigureResult(self.figure, tuple(self._variant(*each) for each in self._taken.items()))

    def _variant(self, variant: Variant, taken: dict[str, list[dict[str, Any]]]) -> VariantResult:
        sides = [Side(subject, tuple(found)) for subject, found in taken.items()]
        return VariantResult(self.figure, variant, sides[0], sides[1] if len(sides) > 1 else None)


def report_lines(result: FigureResult) -> Iterator[str]:
    """What people read: min / median / max of both sides, the ratio of medians, and whether the demand is met."""
    figure = result.figure
    yield f"{figure.name}: {figure.title} ({figure.unit}, {figure.better} is better)"
    for each in result.variants:
        yield f"  {each.variant}"
        for side in filter(None, (each.subject, each.peer)):
            low, middle, high = min(side.samples), side.median, max(side.samples)
            yield f"    {side.subject:<20} {_number(low):>10} {_number(middle):>10} {_number(high):>10}"
        if each.peer is not None:
            yield f"    ratio of medians     {each.ratio:>21.2f}"
    yield f"  {'met' if result.met else 'NOT MET'}: {_verdict(result)}"


def as_json(result: FigureResult) -> dict[str, Any]:
    """All that was measured, with each sample."""
    figure = result.figure
    return {
        "name": figure.name,
        "title": figure.title,
        "unit": figure.unit,
        "better": figure.better,
        "demand": asdict(figure.demand),
        "met": result.met,
        "worst": str(result.worst.variant),
        "variants": [
            {
                "processes": each.variant.processes,
                "malloc": each.variant.malloc,
                "ratio": each.ratio if each.peer else None,
                "sides": [
                    {
                        "subject": side.subject,
                        "min": min(side.samples),
                        "median": side.median,
                        "max": max(side.samples),
                        "runs": side.results,
                    }
                    for side in filter(None, (each.subject, each.peer))
                ],
            }
            for each in result.variants
        ],
    }


def _subjects(figure: Figure) -> list[str]:
    return [figure.subject, *([figure.demand.peer] if isinstance(figure.demand, Ratio) else [])]


def _verdict(result: FigureResult) -> str:
    worst, demand = result.worst, result.figure.demand
    if isinstance(demand, Bound):
        return f"worst {_number(worst.subject.median)} {result.figure.unit}, limit {_number(demand.limit)}"
    return f"worst ratio {worst.ratio:.2f} with {worst.variant}, floor {demand.floor:g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
