"""``ice-tcp conformance``, and ``python -m interop conformance``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from interop.conformance.targets import OURS, SHIPPED

if TYPE_CHECKING:
    from interop.conformance.case import Case
    from interop.conformance.runner import Column

_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command("conformance", short_help="Test an ICE agent against the RFCs.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="T",
    help=f"{', '.join(SHIPPED)}, pipe:COMMAND or MODULE:CLASS; by default {OURS}.",
)
@click.option("--section", "sections", multiple=True, metavar="S", help="Only these, such as 6544 or 8445-7.3.")
@click.option("--case", "patterns", multiple=True, metavar="C", help="Only these cases; * and ? match anything.")
@click.option("--list", "only_list", is_flag=True, help="List the cases with their sentences, and run nothing.")
@click.option("--require", "required", multiple=True, metavar="T", help=f"Targets that must hold; by default {OURS}.")
@click.option("--slow", is_flag=True, help="Check timers in real time, which takes minutes.")
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Cases that run at a time.")
@click.option("--packets", is_flag=True, help="Print the packets of failures, both ways, decoded.")
@click.option("--json", "json_file", type=_FILE, metavar="F", help="Write everything to F as JSON; - prints it.")
@click.option("--junit", "junit_file", type=_FILE, metavar="F", help="Write JUnit XML to F.")
@click.option("--html", "html_file", type=_FILE, metavar="F", help="Write a page of HTML to F.")
def command(
    targets: tuple[str, ...],
    sections: tuple[str, ...],
    patterns: tuple[str, ...],
    required: tuple[str, ...],
    json_file: Path | None,
    junit_file: Path | None,
    html_file: Path | None,
    jobs: int | None,
    *,
    only_list: bool,
    slow: bool,
    packets: bool,
) -> None:
    """Test ICE agents against sentences of the RFCs, over real sockets on loopback.

    Each case cites a sentence of RFC 8489, 8445, 6544, 6062, 4571, 7675, 8838, 8839 or 8863 and drives the agent from a
    scripted peer. "-" in a column: the agent cannot do what the case needs. "slow": it takes real time, see --slow.
    docs/conformance.md tells how to test an agent of one's own.

    The exit status is 0 only if every MUST holds for the required targets; other columns are shown as measured.
    """
    # Everything that is tested is imported here: the command line must not wait for it.
    from interop.conformance.selection import select

    cases = select(sections, patterns)
    if not cases:
        raise click.UsageError("no case is selected")
    if only_list:
        _list(cases)
        return
    chosen = targets or (OURS,)
    must_hold = required or tuple(name for name in chosen if name == OURS)
    if unknown := sorted(set(must_hold) - set(chosen)):
        raise click.UsageError(f"--require {unknown[0]}, which is not among the targets")
    columns = _run(chosen, cases, slow=slow, jobs=jobs)
    _report(cases, columns, quiet=json_file == Path("-"), packets=packets)
    _write(cases, columns, json_file, junit_file, html_file)
    held = [column for name, column in zip(chosen, columns, strict=True) if name in must_hold]
    sys.exit(1 if any(column.violates for column in held) else 0)


def _run(names: Sequence[str], cases: Sequence[Case], *, slow: bool, jobs: int | None) -> list[Column]:
    from rich.console import Console
    from rich.progress import Progress

    from interop.conformance.runner import JOBS, Result, run_all
    from interop.conformance.target import TargetError
    from interop.conformance.targets import open_target

    async def column(name: str, progress: Progress) -> Column:
        target = open_target(name)
        bar = progress.add_task(name, total=len(cases))

        def advance(_result: Result) -> None:
            progress.advance(bar)

        try:
            return await run_all(target, cases, slow=slow, jobs=jobs or JOBS, progress=advance)
        finally:
            await target.close()

    with Progress(console=Console(stderr=True), transient=True) as progress:
        try:
            return [asyncio.run(column(name, progress)) for name in names]
        except TargetError as error:
            raise click.UsageError(str(error)) from None


def _list(cases: Sequence[Case]) -> None:
    for case in cases:
        click.echo(f"{case.id}  [{case.level}; needs {', '.join(sorted(case.needs))}]")
        click.echo(f"    {case.title}")
        click.echo(f"    RFC {case.rfc} s{case.section}: {case.sentence}")
    click.echo(f"{len(cases)} cases")


def _report(cases: Sequence[Case], columns: Sequence[Column], *, quiet: bool, packets: bool) -> None:
    from rich.console import Console

    from interop.conformance.reports.table import print_findings, print_table, print_totals

    if quiet:
        return
    console = Console()
    print_table(console, cases, columns)
    print_findings(console, columns, packets=packets)
    print_totals(console, columns)


def _write(
    cases: Sequence[Case],
    columns: Sequence[Column],
    json_file: Path | None,
    junit_file: Path | None,
    html_file: Path | None,
) -> None:
    from interop.conformance.reports.documents import as_json, as_junit
    from interop.conformance.reports.page import as_page

    if json_file is not None:
        text = json.dumps(as_json(cases, columns), indent=1) + "\n"
        if json_file == Path("-"):
            click.echo(text, nl=False)
        else:
            json_file.write_text(text, "utf-8")
    if junit_file is not None:
        junit_file.write_bytes(as_junit(columns))
    if html_file is not None:
        html_file.write_text(as_page(cases, columns), "utf-8")
