"""Runs many cells, several at a time, after every box in them has shown that it is what its name says."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, Protocol, TypeVar

from interop.natlab.cell import Script, Session, run_cell
from interop.natlab.classify import classify, mismatches
from interop.natlab.expectation import Outcome
from interop.natlab.kinds import KINDS, LabError, Site
from interop.natlab.matrix import sites_of
from interop.natlab.namespaces import Run
from interop.natlab.results import CellResult
from interop.natlab.scenario import Scenario, ServerKind, Weather
from interop.natlab.servers import make_certificate
from interop.natlab.world import World

T = TypeVar("T")

_CLASSIFYING: Final = Weather(rtt=0.01)


@dataclass(frozen=True, slots=True)
class CellReport:
    """All runs of one scenario."""

    scenario: Scenario
    results: tuple[CellResult, ...]

    @property
    def ok(self) -> bool:
        """A cell that works sometimes does not work."""
        return all(result.ok for result in self.results)

    @property
    def worst(self) -> CellResult:
        """The run to look at: the first that is not as it must be, else the slowest."""
        failed = [result for result in self.results if not result.ok]
        return failed[0] if failed else max(self.results, key=lambda result: result.time_to_data or 0.0)

    @property
    def outcome(self) -> Outcome:
        return self.worst.outcome

    @property
    def time_to_data(self) -> float | None:
        """The median, in seconds."""
        times = [result.time_to_data for result in self.results]
        known = [each for each in times if each is not None]
        return median(known) if known else None


class Observer(Protocol):
    """Hears how a run gets on."""

    def classified(self, site: Site, wrong: Sequence[str]) -> None: ...
    def finished(self, result: CellResult, done: int, total: int) -> None: ...


async def check_sites(run: Run, sites: Sequence[Site], jobs: int, observer: Observer) -> None:
    """Classify every site. Raises LabError if one is not what its name says."""
    with tempfile.TemporaryDirectory() as directory:

        async def check(number: int, site: Site) -> list[str]:
            scenario = Scenario(left=site, right=Site(KINDS["direct"]), weather=_CLASSIFYING, servers=ServerKind.NONE)
            async with World(
                scenario, Path(directory, str(number)), lambda node: run.name(f"k{number}", node)
            ) as world:
                wrong = mismatches(site, await asyncio.to_thread(classify, world, site))
            observer.classified(site, wrong)
            return [f"{site}: {each}" for each in wrong]

        found = await _few_at_a_time([partial(check, n, s) for n, s in enumerate(sites)], jobs)
    wrong = [line for lines in found for line in lines]
    if wrong:
        raise LabError("\n".join(["NATs are not what their names say, so nothing they tell can be trusted:", *wrong]))


async def run_cells(
    run: Run,
    cells: Sequence[Scenario],
    directory: Path,
    *,
    jobs: int,
    repeat: int,
    observer: Observer,
    script: Script = Session.connect,
) -> list[CellReport]:
    """Check the sites, then run every cell ``repeat`` times, ``jobs`` at a time. Raises LabError.

    Traces and packet logs go to ``directory``, one directory for each run of each cell.
    """
    await check_sites(run, sites_of(cells), jobs, observer)
    make_certificate(directory)
    done = 0
    total = len(cells) * repeat

    async def one(number: int, round_: int) -> CellResult:
        nonlocal done
        name = f"c{number}" if repeat == 1 else f"c{number}r{round_}"
        result = await run_cell(cells[number], lambda node: run.name(name, node), directory / name, directory, script)
        done += 1
        observer.finished(result, done, total)
        return result

    order = [(number, round_) for round_ in range(repeat) for number in range(len(cells))]
    results = await _few_at_a_time([partial(one, n, r) for n, r in order], jobs)
    by_cell = [results[number :: len(cells)] for number in range(len(cells))]
    return [CellReport(cell, tuple(found)) for cell, found in zip(cells, by_cell, strict=True)]


async def _few_at_a_time(makers: Sequence[Callable[[], Awaitable[T]]], jobs: int) -> list[T]:
    """The results of all, in their order; not more than ``jobs`` run at once."""
    turns = asyncio.Semaphore(jobs)

    async def in_turn(make: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await make()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(in_turn(make)) for make in makers]
    return [task.result() for task in tasks]
