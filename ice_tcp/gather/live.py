"""What is gathered in a terminal: tables that fill, and with ``--watch`` what changed."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ice_tcp.gather import words
from ice_tcp.gather.changes import changes
from ice_tcp.gather.findings import Findings

_REFRESH_INTERVAL: Final = 0.05
_CHANGES_SHOWN: Final = 12


class LiveView:
    """Redraws one screen of tables, at most twenty times a second. Use it with ``with``."""

    def __init__(self, console: Console, *, is_watching: bool = False) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._is_watching = is_watching
        self._before: Findings | None = None
        self._changes: deque[str] = deque(maxlen=_CHANGES_SHOWN)
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, findings: Findings) -> None:
        # From the second gathering on the tables would shrink and grow again each time; its end tells all.
        if self._before is None and time.monotonic() - self._drawn_at >= _REFRESH_INTERVAL:
            self._draw(findings)

    def found(self, findings: Findings) -> None:
        if self._before is not None:
            self._changes.extend(f"{time.strftime('%H:%M:%S')} {each}" for each in changes(self._before, findings))
        self._before = findings
        self._draw(findings)

    def _draw(self, findings: Findings) -> None:
        self._drawn_at = time.monotonic()
        self._live.update(self._screen(findings), refresh=True)

    def _screen(self, findings: Findings) -> RenderableType:
        parts: list[RenderableType] = []
        if self._is_watching:  # what moves stands on top, where the smallest screen shows it
            parts.append(Text(f"Changes, last looked at {time.strftime('%H:%M:%S')}; Ctrl-C ends", "bold"))
            parts += [Text(each) for each in self._changes] or [Text("none so far", "bright_black")]
            parts.append(Text())
        parts.append(_candidates(findings))
        if findings.removed:
            parts.append(_removed(findings))
        parts += [_servers(findings), *_remedies(findings)]
        if findings.mappings:
            parts.append(_mappings(findings))
        return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _candidates(findings: Findings) -> Table:
    state = f"after {findings.seconds * 1000:.0f} ms" if findings.is_done else "gathering"
    table = _table(f"Candidates, {state}", "type", "transport", "address", "priority", "rules")
    for each in findings.kept:
        candidate = each.candidate
        table.add_row(
            *(candidate.type, words.kind(candidate), str(candidate.address), str(candidate.priority)),
            Text(words.rules(each), "" if each.is_told else "yellow"),
        )
    return table


def _removed(findings: Findings) -> Table:
    table = _table("Removed", "what", "by")
    for each in findings.removed:
        subject = each.subject if isinstance(each.subject, str) else words.described(each.subject)
        table.add_row(Text(subject, "bright_black"), Text(each.rule, "bright_black"))
    return table


def _servers(findings: Findings) -> RenderableType:
    if not findings.servers:
        return Text(words.NO_SERVERS, "bright_black")
    table = _table("Servers", "server", "asked for", "way", "answer")
    for server in findings.servers:
        style = "bold green" if server.is_good else "bold red"
        table.add_row(Text(server.url, style), Text(words.state(server), style))
        for report in server.reports:
            answer = words.answer(report, findings.own_addresses)
            table.add_row(
                *("", words.asked(report), words.way(report)), Text(answer, "red" if report.failure else "green")
            )
    return table


def _remedies(findings: Findings) -> list[RenderableType]:
    by_cause = {failure.cause: failure for server in findings.servers for failure in server.failures}
    return [Text.assemble((f"{cause}: ", "red"), failure.remedy) for cause, failure in by_cause.items()]


def _mappings(findings: Findings) -> Table:
    table = _table("NAT", "transport", "from", "behaviour")
    for (transport, host), behaviour in findings.mappings.items():
        table.add_row(transport, host, words.MAPPINGS[behaviour])
    return table
