"""The demonstration in a terminal: tables that change while it runs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ice_tcp.demo import words
from ice_tcp.demo.plain import LABEL_WIDTH, summary
from ice_tcp.demo.plan import Payload
from ice_tcp.demo.record import Observation, PairRecord, Record
from ice_tcp.demo.sender import Outcome
from ice_tcp.gather.words import asked, kind

_REFRESH_INTERVAL: Final = 0.05
_BAR_WIDTH: Final = 40
_WIDE_COLUMNS: Final = 110
"""On less, the check list shows only the last state of each pair."""
_PASSING_SECONDS: Final = 0.0001
_STYLES: Final = {
    "frozen": "bright_black",
    "waiting": "blue",
    "in-progress": "yellow",
    "succeeded": "green",
    "failed": "red",
    "removed": "bright_black",
}
"""How each state of a pair looks."""


class LiveView:
    """Redraws one screen of tables, at most twenty times a second. Use it with ``with``."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._payload: Payload | None = None
        self._record: Record | None = None
        self._done = 0
        self._outcome: Outcome | None = None
        self._drawn_at = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def begin(self, payload: Payload, sender: Record) -> None:
        self._payload, self._record = payload, sender
        self._draw()

    def observe(self, _: Observation) -> None:
        self._draw_if_due()

    def progress(self, done: int) -> None:
        self._done = done
        self._draw_if_due()

    def end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._draw()

    def _draw_if_due(self) -> None:
        if time.monotonic() - self._drawn_at >= _REFRESH_INTERVAL:
            self._draw()

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        self._live.update(self._screen(), refresh=True)

    def _screen(self) -> RenderableType:
        assert self._payload is not None and self._record is not None
        title = Text.assemble(
            (words.payload_name(self._payload), "bold"),
            f", {words.size(self._payload.size)}: from this process to another, on loopback only",
        )
        is_narrow = self._live.console.width < _WIDE_COLUMNS
        # What moves stands on top, where the smallest screen shows it; the result comes last, where the eye ends.
        parts: list[RenderableType] = [title]
        if self._outcome is None:
            parts.append(_bar(self._done, self._payload.size))
        parts += [_candidates(self._record), _server(self._record), _checklist(self._record, is_narrow=is_narrow)]
        if self._outcome is not None:
            parts.append(_result(self._outcome))
        return Group(*parts)


def _candidates(record: Record) -> Table:
    table = Table(title="Candidates", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("side", "type", "transport", "tcptype", "address"):
        table.add_column(column, no_wrap=True)
    table.add_column("priority", justify="right", no_wrap=True)
    for seen in sorted(record.candidates, key=lambda seen: (not seen.is_local, -seen.candidate.priority)):
        candidate = seen.candidate
        table.add_row(
            "sender" if seen.is_local else "receiver",
            candidate.type,
            candidate.transport,
            candidate.tcptype or "",
            str(candidate.address),
            str(candidate.priority),
        )
    return table


def _server(record: Record) -> Table:
    table = Table(title="Server", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("asked by the sender for", "answer"):
        table.add_column(column)
    for seen in record.servers.values():
        table.add_row(asked(seen.report), words.what_server_said(seen))
    return table


def _checklist(record: Record, *, is_narrow: bool) -> Table:
    table = Table(title="Check list", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("pair", "transport", "sender", "receiver"):
        table.add_column(column, no_wrap=True)
    table.add_column("state" if is_narrow else "states, with ms since gathering began")
    for pair in record.checklist():
        path = record.selected
        is_selected = path is not None and (pair.local, pair.remote) == (path.local, path.remote)
        states = _last_state(pair) if is_narrow else _states(pair)
        if is_selected and path is not None and path.nominated:
            states.append(", nominated", "bold green")
        table.add_row(
            f"{pair.pair}",
            kind(pair.local),
            words.address(pair.local),
            words.address(pair.remote),
            states,
            style="bold" if is_selected else "",
        )
    return table


def _last_state(pair: PairRecord) -> Text:
    return Text(words.state(pair), _STYLES.get(pair.state, ""))


def _states(pair: PairRecord) -> Text:
    """The states that it stayed in; those that it only passed through tell nothing."""
    text = Text()
    for index, (at, state) in enumerate(pair.states):
        is_last = index == len(pair.states) - 1
        if is_last or pair.states[index + 1][0] - at > _PASSING_SECONDS:
            text.append(" > " if text else "", "bright_black")
            text.append(state, _STYLES.get(state, ""))
            text.append(f" {at * 1000:.1f}", "bright_black")
    if pair.verdict is not None:
        text.append(f" ({pair.verdict})", "bright_black")
    return text


def _bar(done: int, total: int) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(ProgressBar(total=max(total, 1), completed=done, width=_BAR_WIDTH), f"{words.size(done)} sent")
    return table


def _result(outcome: Outcome) -> RenderableType:
    style = "bold green" if outcome.error is None else "bold red"
    *rows, (_, conclusion) = summary(outcome)
    lines = [Text.assemble((f"{label:<{LABEL_WIDTH}}", "bold"), text, overflow="fold") for label, text in rows]
    return Group(*lines, Text(conclusion, style))
