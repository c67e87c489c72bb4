"""What was gathered as JSON."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from candidates.candidate import Candidate
from candidates.sdp import format_candidate
from ice_tcp.core.events import ServerReport
from ice_tcp.gather import words
from ice_tcp.gather.changes import changes
from ice_tcp.gather.findings import Findings, ServerOutcome


class DocumentView:
    """Writes an object that `json.loads` reads: after the first gathering, and after each that changed something."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self._before: Findings | None = None

    def update(self, _: Findings) -> None:
        """Nothing is written before the end."""

    def found(self, findings: Findings) -> None:
        before, self._before = self._before, findings
        different = changes(before, findings) if before is not None else []
        if before is None or different:
            self._write(document(findings, different))


def document(findings: Findings, different: list[str]) -> dict[str, Any]:
    """Everything about a gathering; times are seconds."""
    return {
        "version": version("ice-tcp"),
        "ok": findings.is_good,
        "seconds": findings.seconds,
        "changes": different,
        "candidates": [
            {**candidate_fields(each.candidate), "rule": each.rule, "told": each.is_told, "telling": each.telling}
            for each in findings.kept
        ],
        "removed": [
            {"address": each.subject, "rule": each.rule}
            if isinstance(each.subject, str)
            else {**candidate_fields(each.subject), "rule": each.rule}
            for each in findings.removed
        ],
        "servers": [_server(server) for server in findings.servers],
        "mapping": [
            {"transport": transport, "host": host, "behaviour": behaviour, "meaning": words.MAPPINGS[behaviour]}
            for (transport, host), behaviour in findings.mappings.items()
        ],
    }


def candidate_fields(candidate: Candidate) -> dict[str, Any]:
    """What a candidate is, and how SDP writes it."""
    related = candidate.related_address
    return {
        "type": candidate.type,
        "transport": candidate.transport,
        "tcptype": candidate.tcptype,
        "address": candidate.address.host,
        "port": candidate.address.port,
        "related": str(related) if related else None,
        "priority": candidate.priority,
        "foundation": candidate.foundation,
        "sdp": format_candidate(candidate),
    }


def _server(server: ServerOutcome) -> dict[str, Any]:
    return {"url": server.url, "ok": server.is_good, "reports": [report_fields(report) for report in server.reports]}


def report_fields(report: ServerReport) -> dict[str, Any]:
    """What became of one thing that a server was asked for."""
    failure = report.failure
    return {
        "purpose": report.purpose,
        "leg": report.leg,
        "address": str(report.address) if report.address else None,
        "host": report.host,
        "transport": report.transport,
        "tcptype": report.tcptype,
        "family": report.family,
        "found": [str(address) for address in report.found],
        "failure": {"cause": failure.cause, "text": failure.text, "remedy": failure.remedy} if failure else None,
    }
