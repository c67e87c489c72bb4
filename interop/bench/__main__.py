"""The command line: ``python -m interop.bench``."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from interop.bench.endpoints import TURN_PASSWORD, TURN_USER
from interop.bench.figures import FIGURES, Figure
from interop.bench.runner import FigureResult, Measurement, as_json, report_lines
from interop.bench.session import BenchError
from interop.coturn import Coturn, CoturnError

_ROUNDS = 5
_QUICK_ROUNDS = 1
_BUSY = 0.5  # other work for each processor, as the load average tells, from which on figures are unsteady


@click.command()
@click.argument("items", nargs=-1, metavar="[ITEM]...", type=click.Choice(list(FIGURES)))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all samples there.")
@click.option("--quick", is_flag=True, help="Few and short runs: to see that all works, not to believe the figures.")
@click.option("--rounds", type=int, help=f"How often each side is sampled, an odd number (default: {_ROUNDS}).")
def main(items: tuple[str, ...], json_file: Path | None, quick: bool, rounds: int | None) -> None:
    """Measure ITEMs, all by default, against their peers and floors.

    Exits with 1 if a floor is not met in the worst variant, or if something could not be measured.
    """
    if rounds is None:
        rounds = _QUICK_ROUNDS if quick else _ROUNDS
    if rounds < 1 or not rounds % 2:
        raise click.BadParameter("not an odd number", param_hint="--rounds")
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    if load > _BUSY:
        print(f"This machine is busy (load {load:.1f} for each processor): figures will be unsteady.\n")
    results, failures = asyncio.run(_measure_all(items or tuple(FIGURES), rounds, quick))
    if json_file is not None:
        document = _document(results, failures, quick) | {"load for each processor, before": load}
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    missed = [result.figure.name for result in results if not result.met]
    print(f"{len(results) - len(missed)} met, {len(missed)} not met, {len(failures)} not measured")
    for name in (*missed, *failures):
        print(f"  {name}")
    sys.exit(1 if missed or failures else 0)


async def _measure_all(items: tuple[str, ...], rounds: int, quick: bool) -> tuple[list[FigureResult], dict[str, str]]:
    measurements = {name: Measurement(FIGURES[name], rounds=rounds, quick=quick) for name in items}
    failures: dict[str, str] = {}
    for number in range(rounds):
        print(f"Round {number + 1} of {rounds} ...", flush=True)
        for name, measurement in measurements.items():
            if name in failures or number >= measurement.rounds:
                continue
            try:
                with _serving(measurement.figure) as turn:
                    await measurement.take(number, turn)
            except (BenchError, CoturnError) as error:
                failures[name] = str(error)
    print()
    for name, problem in failures.items():
        print(f"{name}: not measured: {problem}\n")
    results = [measurement.result() for name, measurement in measurements.items() if name not in failures]
    for result in results:
        print("\n".join(report_lines(result)), end="\n\n")
    return results, failures


@contextmanager
def _serving(figure: Figure) -> Iterator[tuple[str, int] | None]:
    """The coturn that relays both sides of a figure, if it is a relayed one. Raises CoturnError.

    It has a processor of its own, as it would elsewhere: how the system shares two among three busy processes is not
    what is measured.
    """
    if figure.relayed_by is None:
        yield None
        return
    first, *others = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as directory, ExitStack() as running:
        with _on([first]):
            coturn = running.enter_context(Coturn(Path(directory), users={TURN_USER: TURN_PASSWORD}))
        with _on(others or [first]):
            yield coturn.address


@contextmanager
def _on(processors: list[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, runs on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _document(results: list[FigureResult], failures: dict[str, str], quick: bool) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "quick": quick,
        "figures": [as_json(result) for result in results],
        "not measured": failures,
    }


if __name__ == "__main__":
    main()
