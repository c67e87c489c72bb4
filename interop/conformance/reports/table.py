"""The table that a run prints: a row a case, a column a target, then what failed and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from interop.conformance.case import Case
from interop.conformance.reports.packets import packet_lines
from interop.conformance.runner import Column, Outcome, Result

MARKS = {
    Outcome.PASSED: "[green]pass[/]",
    Outcome.FAILED: "[red]FAIL[/]",
    Outcome.DEVIATES: "[yellow]deviates[/]",
    Outcome.DECLINED: "[dim]no[/]",
    Outcome.NOT_APPLICABLE: "[dim]-[/]",
    Outcome.NOT_RUN: "[dim]slow[/]",
    Outcome.BROKEN: "[red]BROKEN[/]",
}


def print_table(console: Console, cases: Sequence[Case], columns: Sequence[Column]) -> None:
    """All results."""
    table = Table(title="Conformance", title_justify="left", pad_edge=False)
    table.add_column("case", overflow="fold")
    table.add_column("level")
    for column in columns:
        table.add_column(f"{column.name} {column.version}", justify="center")
    previous = 0
    for case in cases:
        if case.rfc != previous:
            table.add_section()
            previous = case.rfc
        table.add_row(case.id, case.level, *(MARKS[column.results[case.id].outcome] for column in columns))
    console.print(table)


def print_findings(console: Console, columns: Sequence[Column], *, packets: bool) -> None:
    """What did not pass, with its evidence, and with the packets both ways."""
    for column in columns:
        for result in column.results.values():
            if result.outcome in (Outcome.FAILED, Outcome.BROKEN):
                _print_failure(console, column, result, packets=packets)
    for column in columns:
        deviating = [result for result in column.results.values() if result.outcome is Outcome.DEVIATES]
        for result in deviating:
            console.print(f"[yellow]deviates[/]  {column.name}  {result.case.id}", highlight=False)
            console.print(f"    {escape(column.deviations[result.case.id])}", highlight=False)
        for id_ in stale_deviations(column):
            console.print(f"[yellow]passes, though its deviation is written down:[/] {column.name}  {id_}")


def print_totals(console: Console, columns: Iterable[Column]) -> None:
    for column in columns:
        counts = Counter(result.outcome for result in column.results.values())
        told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])
        console.print(f"{column.name} {column.version}: {told}", highlight=False)
        if column.unhandled:
            kinds = "; ".join(sorted(set(column.unhandled))[:3])
            console.print(f"    {len(column.unhandled)} errors that nobody handled, such as: {escape(kinds)}")


def stale_deviations(column: Column) -> list[str]:
    """Cases that pass although a deviation is written down for them."""
    return [id_ for id_ in column.deviations if id_ in column.results and column.results[id_].outcome is Outcome.PASSED]


def _print_failure(console: Console, column: Column, result: Result, *, packets: bool) -> None:
    case = result.case
    console.print(f"[red]{result.outcome}[/]  {column.name}  {case.id}", highlight=False)
    console.print(f"    {escape(case.title)}", highlight=False)
    console.print(f"    RFC {case.rfc} s{case.section}, {case.level}: {escape(case.sentence)}", highlight=False)
    console.print(f"    [bold]{escape(result.evidence)}[/]", highlight=False)
    if packets:
        for line in packet_lines(result.packets):
            console.print(f"      {escape(line)}", highlight=False, soft_wrap=True)
    console.print()
