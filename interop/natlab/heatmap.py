"""The picture: one HTML file with a heat map of path and time to data, each cell linked to what happened in it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Final

from interop.natlab.expectation import Outcome
from interop.natlab.internet import LADDER_FILE
from interop.natlab.reports import report_of
from interop.natlab.results import MOMENTS, CellResult, SideResult
from interop.natlab.runner import CellReport
from interop.natlab.scenario import Transports
from interop.natlab.table import cell_text, plain_cells, right_name, special_cells

_LADDER_LINES: Final = 150

_STYLE: Final = """
:root { --ink: #1d2430; --dim: #667085; --line: #d7dce4; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p { color: var(--dim); }
table { border-collapse: separate; border-spacing: 2px; }
th { font-weight: 500; text-align: left; padding: .2rem .5rem; font-size: .85rem; white-space: nowrap; }
thead th { vertical-align: bottom; } thead th span { writing-mode: vertical-rl; transform: rotate(180deg); }
td { padding: 0; min-width: 4.4rem; height: 2.1rem; text-align: center; border-radius: 4px; font-size: .8rem; }
td a { display: block; line-height: 2.1rem; color: inherit; text-decoration: none; }
td a:hover, td a:focus { outline: 2px solid var(--ink); border-radius: 4px; }
.key span { display: inline-block; padding: .1rem .6rem; border-radius: 4px; margin-right: .4rem; }
.key { color: var(--ink); }
section { display: none; border-top: 1px solid var(--line); margin-top: 2rem; } section:target { display: block; }
section table { border-spacing: 0; } section td { text-align: left; font-size: .85rem; }
section td, section th { min-width: 0; height: auto; padding: .15rem .8rem .15rem 0; }
pre { background: #f5f6f8; padding: .8rem; overflow-x: auto; font-size: .78rem; line-height: 1.35; border-radius: 4px; }
.udp { background: #bfe3c6; } .tcp { background: #b9d7f0; } .relay { background: #f6dfa9; }
.failed { background: #e5484d; color: #fff; font-weight: 600; }
"""


def page(reports: Sequence[CellReport], *, command: str, at: datetime, beside: Path | None = None) -> str:
    """The whole file; it needs nothing else. ``at`` is when the run began, ``command`` how.

    Where cells have reports, it leads to them from the directory ``beside`` them that it will be in.
    """
    good = sum(report.ok for report in reports)
    numbers = {id(report): number for number, report in enumerate(reports)}
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>NAT lab</title>",
        f"<style>{_STYLE}</style>",
        "<h1>NAT lab</h1>",
        (
            f"<p>{good} of {len(reports)} cells as they must be. {escape(at.strftime('%Y-%m-%d %H:%M'))}, "
            f"Linux {escape(platform.release())}, <code>{escape(command)}</code></p>"
        ),
        (
            "<p class=key><span class=udp>direct, UDP</span><span class=tcp>direct, TCP</span>"
            "<span class=relay>relay</span><span class=failed>not as it must be</span> "
            "Rows are the left site, columns the right one. Numbers are milliseconds from the moment that the later "
            "side starts its checks until both have had data. A cell leads to its packets.</p>"
        ),
    ]
    for transports in Transports:
        chosen = plain_cells(reports, transports)
        if chosen:
            parts.append(f"<h2>Candidates: {transports}</h2>{_map(chosen, numbers)}")
    special = special_cells(reports)
    if special:
        parts.append(f"<h2>Special conditions</h2>{_list(special, numbers)}")
    parts += [_section(report, numbers[id(report)], beside) for report in reports]
    return "\n".join([*parts, "</html>\n"])


def _map(reports: Sequence[CellReport], numbers: dict[int, int]) -> str:
    cells = {(str(report.scenario.left), right_name(report.scenario)): report for report in reports}
    lefts = list(dict.fromkeys(left for left, _ in cells))
    rights = list(dict.fromkeys(right for _, right in cells))
    head = "".join(f"<th scope=col><span>{escape(right)}</span></th>" for right in rights)
    rows = [f"<thead><tr><th></th>{head}</tr></thead>"]
    for left in lefts:
        row = "".join(_cell(cells.get((left, right)), numbers) for right in rights)
        rows.append(f"<tr><th scope=row>{escape(left)}</th>{row}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _list(reports: Sequence[CellReport], numbers: dict[int, int]) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(report.scenario.title)}</th>{_cell(report, numbers)}</tr>" for report in reports
    )
    return f"<table>{rows}</table>"


def _cell(report: CellReport | None, numbers: dict[int, int]) -> str:
    if report is None:
        return "<td></td>"
    text = cell_text(report)
    title = escape(f"{report.scenario.title}: {report.worst.path} {report.worst.why}")
    link = f'<a href="#c{numbers[id(report)]}">{escape(text)}</a>'
    return f'<td class={_class(report)} title="{title}">{link}</td>'


def _class(report: CellReport) -> str:
    if not report.ok:
        return "failed"
    if report.outcome is Outcome.RELAY or report.worst.left.local is None:
        return "relay"
    return str(report.worst.left.local["transport"])


def _section(report: CellReport, number: int, beside: Path | None) -> str:
    result = report.worst
    made = report_of(result) if beside is not None else None
    link = "" if made is None else f' <a href="{escape(os.path.relpath(made, beside))}">All messages and pairs</a>'
    rows = "".join(
        f"<tr><th>{name}</th>{_side(result, side)}</tr>"
        for name, side in zip(("left", "right"), result.sides, strict=True)
    )
    head = "".join(f"<th>{moment}</th>" for moment in MOMENTS)
    verdict = escape(result.why) if result.why else f"as it must be: {result.outcome}"
    runs = "" if len(report.results) == 1 else f" The worst of {len(report.results)} runs."
    return (
        f"<section id=c{number}><h2>{escape(report.scenario.title)}</h2><p>{verdict}.{runs} "
        f"Times are in round trips of {1000 * report.scenario.weather.rtt:g} ms.{link}</p>"
        f"<table><tr><th></th><th>path</th>{head}<th>states</th></tr>{rows}</table>"
        f"<pre>{escape(_ladder(result))}</pre></section>"
    )


def _side(result: CellResult, side: SideResult) -> str:
    ends = [
        "none" if end is None else f"{end['transport']} {end['tcptype'] or ''} {end['type']} {end['address']}"
        for end in (side.local, side.remote)
    ]
    times = [result.in_rtt(side, moment) for moment in MOMENTS]
    cells = [" > ".join(ends), *("" if each is None else f"{each:.1f}" for each in times), " ".join(side.states)]
    return "".join(f"<td>{escape(text)}</td>" for text in cells)


def _ladder(result: CellResult) -> str:
    """The packets, in milliseconds from the later side's start."""
    path = Path(result.directory, LADDER_FILE)
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    head = "  sent ms   recv ms  from > to           packet"
    more = [f"... and {len(lines) - _LADDER_LINES} more"] if len(lines) > _LADDER_LINES else []
    return "\n".join([head, *lines[:_LADDER_LINES], *more])
