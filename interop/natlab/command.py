"""``python -m interop lab``: the NAT lab on the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from interop.natlab import matrix
from interop.natlab import times as timing
from interop.natlab.cell import Script, Session
from interop.natlab.heatmap import page
from interop.natlab.internet import PCAP_FILE
from interop.natlab.kinds import CARRIER, KINDS, LabError, Option, Site
from interop.natlab.namespaces import Run
from interop.natlab.reports import write_reports
from interop.natlab.requirements import missing
from interop.natlab.results import CellResult
from interop.natlab.runner import CellReport, run_cells
from interop.natlab.scenario import Scenario, ServerKind, Transports, Weather
from interop.natlab.table import matrices, result_line, summary

_SAME = "same"
_JOBS = 6
_TIMEOUT = 60.0
"""Seconds that a cell may take."""
_SKIPPED = 77
"""Exit status where the machine cannot run the lab."""


def _kinds_and_options() -> str:
    kinds = "\n".join(f"  {kind.name:<28}{kind.title}" for kind in KINDS.values())
    options = "\n".join(f"  +{option:<27}{option.meaning}" for option in Option)
    return (
        f"\b\nKinds:\n{kinds}\n\n\b\nOptions:\n{options}\n  +{CARRIER + '[=KIND]':<27}Behind another box, of a carrier"
    )


@click.command(epilog=_kinds_and_options())
@click.option("--left", metavar="SITE", help="A kind, perhaps with options: port-restricted+rst.")
@click.option("--right", metavar="SITE", help=f"The other side; {_SAME!r} puts both hosts behind one box.")
@click.option(
    "--transport",
    type=click.Choice([each.value for each in Transports]),
    help="Whose candidates are gathered; all three in turn.",
)
@click.option("--subset", is_flag=True, help="Every kind and every option once, instead of the whole matrix.")
@click.option("--conditions", is_flag=True, help="The special conditions, without the matrix of kinds.")
@click.option(
    "--times",
    is_flag=True,
    help=f"Measure round trips against limits, in {timing.ROUNDS} runs unless --repeat.",
)
@click.option("--rtt", type=float, default=100.0, show_default=True, help="Between the hosts, in milliseconds.")
@click.option("--jitter", type=float, default=0.0, help="Most extra delay of a packet, in milliseconds.")
@click.option("--loss", type=float, default=0.0, help="Of packets between two sites, in percent.")
@click.option("--reorder", type=float, default=0.0, help="Packets that lose their place, in percent.")
@click.option("--bandwidth", type=float, default=0.0, help="Of each site, in Mbit/s; 0: no limit.")
@click.option("--signaling", type=float, default=100.0, show_default=True, help="A message's way, in milliseconds.")
@click.option("--skew", type=float, help="Start the right side so many milliseconds after the left.")
@click.option(
    "--servers",
    type=click.Choice([each.value for each in ServerKind]),
    default=ServerKind.COTURN.value,
    show_default=True,
)
@click.option("--repeat", type=click.IntRange(1), help="Run every cell so often.")
@click.option("--jobs", type=click.IntRange(1), help=f"Cells at a time; {_JOBS}, and one where times are what matters.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the heat map there.")
@click.option(
    "--pcap", type=click.Path(dir_okay=False, path_type=Path), help="Write the packets of a single cell there."
)
@click.option(
    "--traces",
    type=click.Path(file_okay=False, path_type=Path),
    help="Leave traces, packet logs and a report of each cell.",
)
@click.option("--keep", is_flag=True, help="Leave the namespaces of a single cell until Ctrl-C.")
@click.option("--allow-skip", is_flag=True, help="Exit with 0 where the machine cannot run the lab.")
def command(
    *,
    left: str | None,
    right: str | None,
    transport: str | None,
    subset: bool,
    conditions: bool,
    times: bool,
    servers: str,
    repeat: int | None,
    jobs: int | None,
    as_json: bool,
    html: Path | None,
    pcap: Path | None,
    traces: Path | None,
    keep: bool,
    allow_skip: bool,
    **weather: float | None,
) -> None:
    """Connect two agents through kernel NATs in network namespaces: one cell, or every kind against every kind.

    Without options: every kind against every kind over UDP, TCP and both, and the special conditions. Needs root;
    nothing leaves this machine. Exits with 1 if a cell is not as it must be: direct wherever there is a direct path,
    through the relay everywhere else; with --times, if it takes too many round trips.
    """
    lacking = missing(ServerKind(servers))
    if lacking:
        click.echo("\n".join(["The NAT lab cannot run here. It needs:", *(f"  {each}" for each in lacking)]), err=True)
        sys.exit(0 if allow_skip else _SKIPPED)
    try:
        base = _base(ServerKind(servers), weather, timeout=None if keep else _TIMEOUT)
        rows = timing.rows(base) if times else ()
        cells = timing.cells_of(rows) or _cells(base, left, right, transport, subset=subset, conditions=conditions)
        repeat = repeat or (timing.ROUNDS if times else 1)
        if (keep or pcap) and len(cells) * repeat != 1:
            raise click.UsageError("--keep and --pcap are for a single cell: give --left, --right and --transport")
        begun = datetime.now().astimezone()
        with _directory(traces) as directory:
            script = _hold if keep else Session.connect
            jobs = jobs or (1 if times else _JOBS)
            reports = _run(cells, directory, script, jobs=jobs, repeat=repeat, quiet=as_json)
            if pcap is not None:
                shutil.copyfile(reports[0].worst.directory / PCAP_FILE, pcap)
            if traces is not None:
                write_reports(reports)
            if html is not None:
                beside = html.resolve().parent if traces is not None else None
                html.write_text(page(reports, command=_command_line(), at=begun, beside=beside), encoding="utf-8")
            measurements = timing.measured(rows, reports)
            if times:
                lines, document = timing.lines(measurements), timing.as_json(measurements)
            else:
                lines = ["", *matrices(reports), *summary(reports)]
                document = [result.as_json() for report in reports for result in report.results]
    except LabError as error:
        raise click.ClickException(str(error)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted", err=True)
        sys.exit(130)
    click.echo(json.dumps(document, indent=1) if as_json else "\n".join(lines))
    sys.exit(0 if all(each.ok for each in reports) and all(each.is_met for each in measurements) else 1)


def _base(servers: ServerKind, weather: dict[str, float | None], timeout: float | None) -> Scenario:
    """What all cells have in common; milliseconds, percent and Mbit/s become seconds, shares and bits."""
    number = {key: value for key, value in weather.items() if value is not None}
    skew = number.get("skew")
    return Scenario(
        left=Site.parse("direct"),
        right=Site.parse("direct"),
        weather=Weather(
            rtt=number["rtt"] / 1000,
            jitter=number["jitter"] / 1000,
            loss=number["loss"] / 100,
            reorder=number["reorder"] / 100,
            bandwidth=number["bandwidth"] * 1e6,
        ),
        signaling=number["signaling"] / 1000,
        skew=None if skew is None else skew / 1000,
        servers=servers,
        timeout=timeout,
    )


def _cells(
    base: Scenario, left: str | None, right: str | None, transport: str | None, *, subset: bool, conditions: bool
) -> list[Scenario]:
    transports = [Transports(transport)] if transport is not None else list(Transports)
    if subset:
        return matrix.subset(base)
    if conditions:
        return matrix.conditions(base)
    if left is not None and right is not None:
        there = None if right == _SAME else Site.parse(right)
        return [replace(base, left=Site.parse(left), right=there, transports=each) for each in transports]
    if left is not None:
        return matrix.row(base, Site.parse(left), transports)
    if right is not None:
        return matrix.column(base, Site.parse(right), transports)
    if transport is not None:
        return matrix.whole(base, transports)
    return [*matrix.whole(base, transports), *matrix.conditions(base)]


class _Progress:
    """Prints a line for each site and each cell."""

    def classified(self, site: Site, wrong: Sequence[str]) -> None:
        click.echo(f"{'FAIL' if wrong else 'ok  '} {site} is what its name says")

    def finished(self, result: CellResult, done: int, total: int) -> None:
        click.echo(f"{done}/{total} {result_line(result)}")


class _Quiet(_Progress):
    def classified(self, site: Site, wrong: Sequence[str]) -> None: ...
    def finished(self, result: CellResult, done: int, total: int) -> None: ...


async def _hold(session: Session) -> None:
    """Connect, say how to look around, and wait for Ctrl-C."""
    await session.connect()
    click.echo("Connected, and left as it is until Ctrl-C. To look around:")
    for name, node in session.world.nodes.items():
        click.echo(f"  {name:<14} ip netns exec {node.namespace} ss -tunap")
    await asyncio.Event().wait()


def _run(
    cells: Sequence[Scenario], directory: Path, script: Script, *, jobs: int, repeat: int, quiet: bool
) -> list[CellReport]:
    async def main() -> list[CellReport]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with Run() as run:
            observer = _Quiet() if quiet else _Progress()
            return await run_cells(run, cells, directory, jobs=jobs, repeat=repeat, observer=observer, script=script)

    return asyncio.run(main())


@contextlib.contextmanager
def _directory(traces: Path | None) -> Iterator[Path]:
    if traces is not None:
        traces.mkdir(parents=True, exist_ok=True)
        yield traces.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="icetcp-lab-") as directory:
            yield Path(directory)


def _command_line() -> str:
    return " ".join(["python -m interop", *sys.argv[1:]])
