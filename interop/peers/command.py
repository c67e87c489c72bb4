"""``python -m interop peers``: one table of what works with other implementations."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from interop.conformance.target import TargetError
from interop.coturn import CoturnError
from interop.natlab.kinds import LabError
from interop.natlab.namespaces import Run
from interop.peers.cells import Cell, CellError, Name, all_cells
from interop.peers.ice import SessionError
from interop.peers.requirements import missing
from interop.peers.run import ExchangeError
from interop.peers.times import lines, measure

JOBS = 3
"""Cells at a time: they wait more than they work."""

FAILURES = (CellError, ExchangeError, SessionError, LabError, TargetError, CoturnError, OSError)
"""What a cell says when it did not work."""


@click.command()
@click.option("--peer", "peers", multiple=True, metavar="NAME", help="Only this peer; may be given more than once.")
@click.option("--times", "is_timed", is_flag=True, help="Measure instead how soon Chromium's channel opens.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
def command(peers: tuple[str, ...], is_timed: bool, as_json: bool) -> None:
    """Exchange messages and media with other implementations, in every role and over every transport they have.

    Needs root, for each exchange has a network of its own. Exits with 1 if a cell failed or its peer is not installed.
    """
    if is_timed:
        sys.exit(_time(as_json))
    cells = [cell for cell in all_cells() if not peers or cell.peer.lower() in {each.lower() for each in peers}]
    if not cells:
        known = ", ".join(dict.fromkeys(cell.peer for cell in all_cells()))
        raise click.UsageError(f"there is no such peer; there are {known}")
    with Run() as run, tempfile.TemporaryDirectory(prefix="icetcp-peers-") as directory:
        rows = asyncio.run(_rows(cells, run, Path(directory), tell=None if as_json else click.echo))
    failed = [row for row in rows if row["verdict"] != "passed"]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        click.echo(f"\n{len(rows) - len(failed)} of {len(rows)} passed")
    sys.exit(1 if failed else 0)


def _time(as_json: bool) -> int:
    """The exit status."""
    absent = missing()
    if "Chromium" in absent:
        raise click.ClickException(f"not installed: {absent['Chromium']}")
    with Run() as run, tempfile.TemporaryDirectory(prefix="icetcp-peers-") as directory:
        try:
            times = asyncio.run(measure(run, Path(directory)))
        except FAILURES as error:
            raise click.ClickException(str(error)) from None
    click.echo(json.dumps(asdict(times), indent=1) if as_json else "\n".join(lines(times)))
    return 0 if times.is_met else 1


async def _rows(
    cells: Sequence[Cell], run: Run, directory: Path, *, tell: Callable[[str], None] | None
) -> list[dict[str, str]]:
    """The table, a few cells at a time; each row is told as soon as those above it are."""
    absent = missing()
    at_once = asyncio.Semaphore(JOBS)

    async def row(number: int, cell: Cell) -> dict[str, str]:
        verdict, path = f"not installed: {absent.get(cell.peer)}", ""
        if cell.peer not in absent:
            async with at_once:
                verdict, path = await _outcome(cell, partial(run.name, f"{number}"), directory / f"{number}")
        return {
            "peer": cell.peer,
            "role": cell.role,
            "transport": cell.transport,
            "what": cell.what,
            "path": path,
            "verdict": verdict,
        }

    running = [asyncio.ensure_future(row(number, cell)) for number, cell in enumerate(cells)]
    try:
        for each in running:
            found = await each
            if tell is not None:
                tell(_line(found))
    finally:
        for each in running:
            each.cancel()
    return [each.result() for each in running]


async def _outcome(cell: Cell, name: Name, directory: Path) -> tuple[str, str]:
    """The verdict, and the path."""
    directory.mkdir()  # noqa: ASYNC240 - takes no time
    try:
        return "passed", await cell.body(name, directory)
    except FAILURES as error:
        return f"FAILED: {error}", ""


def _line(row: dict[str, str]) -> str:
    texts = (row["peer"].ljust(18), row["role"].ljust(15), row["transport"].ljust(24), row["what"].ljust(42))
    return " ".join([*texts, row["path"].ljust(26), row["verdict"]])
