"""What people read in a terminal: a line for each cell as it ends, the matrix, and what is not as it must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from interop.natlab.expectation import Outcome
from interop.natlab.results import CellResult
from interop.natlab.runner import CellReport
from interop.natlab.scenario import Scenario, Transports

SAME_BOX: Final = "same box"


def right_name(scenario: Scenario) -> str:
    return SAME_BOX if scenario.right is None else str(scenario.right)


def result_line(result: CellResult) -> str:
    """One run in one line."""
    mark = "ok  " if result.ok else "FAIL"
    time = "" if result.time_to_data is None else f", data after {1000 * result.time_to_data:.0f} ms"
    return f"{mark} {result.scenario.title}: {result.path}{time}" + (f"  {result.why}" if result.why else "")


def cell_text(report: CellReport) -> str:
    """What stands in a cell of the matrix: ``tcp 231`` for milliseconds to data, ``relay 412``, ``FAIL``."""
    if not report.ok:
        return "FAIL"
    local = report.worst.left.local
    way = "relay" if report.outcome is Outcome.RELAY else str(local["transport"]) if local is not None else ""
    time = report.time_to_data
    return way if time is None else f"{way} {1000 * time:.0f}"


def matrices(reports: Sequence[CellReport]) -> list[str]:
    """A table of left by right for each transport, and a line for each cell that has no place there."""
    lines: list[str] = []
    for transports in Transports:
        chosen = plain_cells(reports, transports)
        if chosen:
            lines += [f"Candidates: {transports}. Path, and median milliseconds to data.", *_matrix(chosen), ""]
    special = special_cells(reports)
    if special:
        lines += ["Special conditions. Path, and median milliseconds to data."]
        lines += [f"  {cell_text(report):<12}{report.scenario.title}" for report in special]
        lines.append("")
    return lines


def plain_cells(reports: Sequence[CellReport], transports: Transports) -> list[CellReport]:
    """Of the matrix of kinds."""
    return [each for each in reports if each.scenario.is_plain and each.scenario.transports is transports]


def special_cells(reports: Sequence[CellReport]) -> list[CellReport]:
    """Those that a matrix of kinds has no place for."""
    return [each for each in reports if not each.scenario.is_plain]


def _matrix(reports: Sequence[CellReport]) -> list[str]:
    cells = {(str(report.scenario.left), right_name(report.scenario)): cell_text(report) for report in reports}
    lefts = list(dict.fromkeys(left for left, _ in cells))
    rights = list(dict.fromkeys(right for _, right in cells))
    rows = [["", *(f"[{number}]" for number in range(1, len(rights) + 1))]]
    rows += [[left, *(cells.get((left, right), "") for right in rights)] for left in lefts]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, "  ".join(f"[{number}] {right}" for number, right in enumerate(rights, 1))]


def summary(reports: Sequence[CellReport]) -> list[str]:
    """How many are as they must be, and why the others are not."""
    bad = [report for report in reports if not report.ok]
    lines = [f"{len(reports) - len(bad)} of {len(reports)} cells as they must be"]
    for report in bad:
        often = (
            f" ({sum(not r.ok for r in report.results)} of {len(report.results)} runs)"
            if len(report.results) > 1
            else ""
        )
        lines.append(f"  {report.scenario.title}{often}: {report.worst.why}")
    return lines
