"""The same for programs: one JSON document, and JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from interop.conformance.case import Case
from interop.conformance.reports.packets import packet_lines
from interop.conformance.runner import Column, Outcome, Result


def as_json(cases: Sequence[Case], columns: Sequence[Column]) -> dict[str, Any]:
    """``cases``: what each says; ``targets``: by name, what was found, by case. Times are seconds."""
    return {
        "cases": {
            case.id: {
                "rfc": case.rfc,
                "section": case.section,
                "level": case.level.value,
                "sentence": case.sentence,
                "title": case.title,
                "needs": sorted(case.needs),
            }
            for case in cases
        },
        "targets": {
            column.name: {
                "version": column.version,
                "unhandled": list(column.unhandled),
                "results": {id_: _result(column, result) for id_, result in column.results.items()},
            }
            for column in columns
        },
    }


def _result(column: Column, result: Result) -> dict[str, Any]:
    told: dict[str, Any] = {"outcome": result.outcome.value, "seconds": round(result.seconds, 3)}
    if result.evidence:
        told["evidence"] = result.evidence
    if result.outcome is Outcome.DEVIATES:
        told["deviation"] = column.deviations[result.case.id]
    if result.packets:
        told["packets"] = list(packet_lines(result.packets))
    return told


def as_junit(columns: Sequence[Column]) -> bytes:
    """A test suite a target, a test case a case; what deviates or does not apply is skipped."""
    root = Element("testsuites")
    for column in columns:
        results = column.results.values()
        suite = SubElement(
            root,
            "testsuite",
            name=f"{column.name} {column.version}",
            tests=str(len(results)),
            failures=str(sum(result.outcome is Outcome.FAILED for result in results)),
            errors=str(sum(result.outcome is Outcome.BROKEN for result in results)),
            skipped=str(sum(result.outcome in _SKIPPED for result in results)),
        )
        for result in results:
            _add_junit_case(suite, result)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


_SKIPPED = (Outcome.NOT_APPLICABLE, Outcome.NOT_RUN, Outcome.DEVIATES, Outcome.DECLINED)


def _add_junit_case(suite: Element, result: Result) -> None:
    case = result.case
    element = SubElement(
        suite, "testcase", classname=f"rfc{case.rfc}.{case.section}", name=case.id, time=f"{result.seconds:.3f}"
    )
    if result.outcome is Outcome.PASSED:
        return
    if result.outcome in _SKIPPED:
        SubElement(element, "skipped", message=f"{result.outcome}: {result.evidence}")
        return
    tag = "failure" if result.outcome is Outcome.FAILED else "error"
    found = SubElement(element, tag, message=result.evidence, type=case.level)
    found.text = "\n".join([f"RFC {case.rfc} s{case.section}: {case.sentence}", "", *packet_lines(result.packets)])
