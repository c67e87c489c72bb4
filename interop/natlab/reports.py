"""A page of each cell, made of both agents' traces: every message between them, candidates, pairs, servers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ice_tcp import read_trace
from ice_tcp.report import report_page
from interop.natlab.results import CellResult
from interop.natlab.runner import CellReport
from interop.natlab.topology import LEFT, RIGHT

REPORT_FILE: Final = "report.html"


def write_reports(reports: Sequence[CellReport]) -> None:
    """One beside the traces of the run that each cell shows, if its agents came to writing any."""
    for report in reports:
        _write(report.worst)


def report_of(result: CellResult) -> Path | None:
    """The page of a run, if it was made."""
    path = Path(result.directory, REPORT_FILE)
    return path if path.exists() else None


def _write(result: CellResult) -> None:
    paths = [Path(result.directory, f"{side}.jsonl") for side in (LEFT, RIGHT)]
    if all(path.exists() for path in paths):
        page = report_page([read_trace(path) for path in paths], title=result.scenario.title)
        Path(result.directory, REPORT_FILE).write_text(page, encoding="utf-8")
