"""One page of HTML without anything from elsewhere: RFC sections by targets, and the cases below each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby

from interop.conformance.case import Case
from interop.conformance.reports.packets import packet_lines
from interop.conformance.runner import Column, Outcome, Result

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c2530 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 2rem }
th, td { border-bottom: 1px solid #d5dbe1; padding: .35rem .6rem; text-align: left; vertical-align: top }
td.o { text-align: center; white-space: nowrap } .passed { color: #13703a } .failed, .broken { color: #b3261e }
.failed, .broken { font-weight: 600 } .deviates { color: #8a5a00 }
.not-applicable, .not-run, .declined { color: #7b8794 }
blockquote { margin: .2rem 0 0; color: #52606d; font-size: 13px } pre { overflow-x: auto; font-size: 12px }
@media (prefers-color-scheme: dark) { body { background: #12171d; color: #dde3ea } th, td { border-color: #303a45 }
.passed { color: #6bd08f } .failed, .broken { color: #ff8a80 } .deviates { color: #f2c14e }
blockquote { color: #9aa7b4 } }
"""


def as_page(cases: Sequence[Case], columns: Sequence[Column]) -> str:
    """A whole document."""
    heads = "".join(f"<th>{escape(column.name)} {escape(column.version)}</th>" for column in columns)
    overview = "".join(_overview_row(rfc, section, list(group), columns) for (rfc, section), group in _sections(cases))
    details = "".join(_detail(rfc, list(group), columns, heads) for rfc, group in groupby(cases, lambda case: case.rfc))
    return (
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>ICE conformance</title><style>{_STYLE}</style>\n<h1>ICE conformance</h1>"
        "<p>How many cases of each section hold, of those that apply.</p>"
        f"<table><tr><th>section</th>{heads}</tr>{overview}</table>{details}</html>\n"
    )


def _sections(cases: Sequence[Case]) -> groupby[tuple[int, str], Case]:
    return groupby(cases, lambda case: (case.rfc, case.section))


def _overview_row(rfc: int, section: str, cases: list[Case], columns: Sequence[Column]) -> str:
    cells = "".join(_share([column.results[case.id] for case in cases]) for column in columns)
    return f"<tr><td><a href='#{rfc}'>RFC {rfc}</a> s{escape(section)}</td>{cells}</tr>\n"


def _share(results: list[Result]) -> str:
    counts = Counter(result.outcome for result in results)
    applied = len(results) - counts[Outcome.NOT_APPLICABLE] - counts[Outcome.NOT_RUN] - counts[Outcome.DECLINED]
    if not applied:
        return "<td class='o not-applicable'>-</td>"
    worst = next(
        outcome for outcome in (Outcome.BROKEN, Outcome.FAILED, Outcome.DEVIATES, Outcome.PASSED) if counts[outcome]
    )
    return f"<td class='o {_css(worst)}'>{counts[Outcome.PASSED]} of {applied}</td>"


def _detail(rfc: int, cases: list[Case], columns: Sequence[Column], heads: str) -> str:
    rows = "".join(_detail_row(case, columns) for case in cases)
    return f"<h2 id='{rfc}'>RFC {rfc}</h2><table><tr><th>case</th><th>level</th>{heads}</tr>{rows}</table>"


def _detail_row(case: Case, columns: Sequence[Column]) -> str:
    results = [column.results[case.id] for column in columns]
    cells = "".join(f"<td class='o {_css(result.outcome)}'>{result.outcome}</td>" for result in results)
    evidence = "".join(
        _evidence(column, result) for column, result in zip(columns, results, strict=True) if _is_finding(result)
    )
    return (
        f"<tr><td><b>s{escape(case.section)}</b> {escape(case.title)}"
        f"<blockquote>{escape(case.sentence)}</blockquote>{evidence}</td><td>{case.level}</td>{cells}</tr>\n"
    )


def _is_finding(result: Result) -> bool:
    return result.outcome in (Outcome.FAILED, Outcome.BROKEN, Outcome.DEVIATES)


def _evidence(column: Column, result: Result) -> str:
    why = column.deviations.get(result.case.id, "") if result.outcome is Outcome.DEVIATES else ""
    packets = escape("\n".join(packet_lines(result.packets)))
    return (
        f"<details><summary class='{_css(result.outcome)}'>{escape(column.name)}: {escape(result.evidence)}</summary>"
        f"{escape(why)}<pre>{packets}</pre></details>"
    )


def _css(outcome: Outcome) -> str:
    return outcome.value.replace(" ", "-")
