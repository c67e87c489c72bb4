"""The command line: ``python -m interop.bench``."""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from pathlib import Path

import click

from interop.bench.figures import FIGURES
from interop.bench.runner import FigureResult, as_json, measure, report_lines
from interop.bench.session import BenchError

_ROUNDS = 5
_QUICK_ROUNDS = 1


@click.command()
@click.argument("items", nargs=-1, metavar="[ITEM]...", type=click.Choice(list(FIGURES)))
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write all samples there.")
@click.option("--quick", is_flag=True, help="Few and short runs: to see that all works, not to believe the figures.")
def main(items: tuple[str, ...], json_file: Path | None, quick: bool) -> None:
    """Measure ITEMs, all by default, against their peers and floors.

    Exits with 1 if a floor is not met in the worst variant, or if something could not be measured.
    """
    results, failures = asyncio.run(_measure_all(items or tuple(FIGURES), quick))
    if json_file is not None:
        json_file.write_text(json.dumps(_document(results, failures, quick), indent=1) + "\n", encoding="utf-8")
    missed = [result.figure.name for result in results if not result.met]
    print(f"{len(results) - len(missed)} met, {len(missed)} not met, {len(failures)} not measured")
    for name in (*missed, *failures):
        print(f"  {name}")
    sys.exit(1 if missed or failures else 0)


async def _measure_all(items: tuple[str, ...], quick: bool) -> tuple[list[FigureResult], dict[str, str]]:
    results: list[FigureResult] = []
    failures: dict[str, str] = {}
    for name in items:
        try:
            result = await measure(FIGURES[name], rounds=_QUICK_ROUNDS if quick else _ROUNDS, quick=quick)
        except BenchError as error:
            failures[name] = str(error)
            print(f"{name}: not measured: {error}\n", flush=True)
            continue
        results.append(result)
        print("\n".join(report_lines(result)), end="\n\n", flush=True)
    return results, failures


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
