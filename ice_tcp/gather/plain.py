"""What was gathered as lines of text: for pipes and logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ice_tcp.gather import words
from ice_tcp.gather.changes import changes
from ice_tcp.gather.findings import Findings, Kept, ServerOutcome


class PlainView:
    """Writes everything after the first gathering, and only what changed after each further one."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._before: Findings | None = None

    def update(self, _: Findings) -> None:
        """Lines do not move."""

    def found(self, findings: Findings) -> None:
        before, self._before = self._before, findings
        if before is None:
            lines = list(full(findings))
        else:
            lines = [f"{time.strftime('%H:%M:%S')} {change}" for change in changes(before, findings)]
        for line in lines:
            self._write(line)


def full(findings: Findings) -> Iterator[str]:
    """Everything, section by section."""
    yield f"Candidates, after {findings.seconds * 1000:.0f} ms"
    yield from map(_kept, findings.kept)
    if not findings.kept:
        yield "  none"
    if findings.removed:
        yield "Removed"
        for each in findings.removed:
            subject = each.subject if isinstance(each.subject, str) else words.described(each.subject)
            yield f"  {subject:<46} {each.rule}"
    yield "Servers"
    for server in findings.servers:
        yield from _server(server, findings)
    if not findings.servers:
        yield f"  {words.NO_SERVERS}"
    if findings.mappings:
        yield "NAT"
        for (transport, host), behaviour in findings.mappings.items():
            yield f"  {transport} from {host}: {words.MAPPINGS[behaviour]}"


def _kept(kept: Kept) -> str:
    candidate = kept.candidate
    what = f"{candidate.type:<5} {words.kind(candidate):<11} {candidate.address!s:<28}"
    return f"  {what} priority {candidate.priority:<10}  {words.rules(kept)}"


def _server(server: ServerOutcome, findings: Findings) -> Iterator[str]:
    yield f"  {server.url}: {words.state(server)}"
    for report in server.reports:
        way = f" ({words.way(report)})" if report.leg is not None else ""
        yield f"    {words.asked(report)}{way}: {words.answer(report, findings.own_addresses)}"
    for failure in server.failures:
        yield f"    {failure.cause}: {failure.remedy}"
