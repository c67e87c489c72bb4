"""The ladder: every message of a session as an arrow between lifelines, time running downwards.

Each thing that happened has a line of its own, in order, with its time beside it; a longer pause shows as a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from html import escape
from typing import Final

from ice_tcp.core.events import AgentState, GatheringDone, PathSelected, Restarted, StateChanged
from ice_tcp.core.exchanges import ServerAnswered, ServerRequestSent
from ice_tcp.core.trace import (
    AcceptWon,
    CheckAnswered,
    CheckSent,
    DialFailed,
    DialStarted,
    Entry,
    FreshPort,
    Nominated,
    PortsPredicted,
    Reopening,
    RequestReceived,
    RoleConflict,
    StreamOpened,
)
from ice_tcp.report.story import Side
from ice_tcp.stun import Method

MOST_ROWS: Final = 600
"""What is left out beyond them is said in the last line."""
_ROW: Final = 20
_PAUSE: Final = 0.2
"""Seconds without anything that show as a gap."""
_TOP: Final = 44
_WIDTH: Final = 960
_PLACES: Final = {2: (0.34, 0.66), 3: (0.34, 0.5, 0.66)}
"""Of the lifelines, by their number: words stand outside of the outer ones."""


class Lines(Enum):
    """Which of the conversations a ladder shows."""

    CHECKS = auto()
    """Between the peers: dials, checks, nominations, and what came of them."""
    SERVERS = auto()
    """With STUN and TURN servers."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A thing that happened, on a lane; it is an arrow from there if ``to`` is given, else words."""

    at: float
    lane: int
    text: str
    to: int | None = None
    kind: str = "note"
    id: bytes | None = None
    """What the other end of an arrow is found by, in the other side's rows."""


_Ends = dict[tuple[bytes | None, str], int]
"""By an arrow's id and kind: which row it is."""


def ladder_svg(sides: Sequence[Side], lines: Lines = Lines.CHECKS, *, most: int = MOST_ROWS) -> str:
    """A drawing for a page, as text that begins with ``<svg``; it is styled by classes of the page, or bare.

    ``sides`` come from `tell`. Of one side, the other lifeline is its peer. Arrows that found their other end slant
    from when the message left to when it came; those that did not, because it was lost or there is no trace of the
    other side, are level, and end in a cross if the other side's trace should have them.
    """
    lanes = _lanes(sides, lines)
    rows = sorted(_rows(sides, lines), key=lambda row: row.at)
    left_out = max(0, len(rows) - most)
    rows = rows[:most]
    heights = list(_heights(rows))
    bottom = (heights[-1] if heights else _TOP) + 2 * _ROW
    size = f'viewBox="0 0 {_WIDTH} {bottom}" width="{_WIDTH}" height="{bottom}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ladder" {size} role="img" aria-label="Messages, by time">',
        _MARKERS,
    ]
    xs = [_WIDTH * place for place in _PLACES[len(lanes)]]
    for x, name in zip(xs, lanes, strict=True):
        parts.append(f'<line class="lane" x1="{x:.0f}" y1="{_TOP - 14}" x2="{x:.0f}" y2="{bottom - _ROW}"/>')
        parts.append(f'<text class="name" x="{x:.0f}" y="20" text-anchor="middle">{escape(name)}</text>')
    parts += _drawn(rows, heights, xs, is_both=len(sides) > 1)
    if left_out:
        parts.append(f'<text class="time" x="4" y="{bottom - 4}">{left_out} more are left out</text>')
    parts.append("</svg>")
    return "\n".join(parts)


_MARKERS: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>'
)


def _lanes(sides: Sequence[Side], lines: Lines) -> list[str]:
    names = [side.name for side in sides]
    if lines is Lines.CHECKS:
        return names if len(names) > 1 else [*names, "Peer"]
    return [names[0], "Servers", *names[1:]]


def _heights(rows: Sequence[_Row]) -> Iterator[int]:
    y, before = _TOP, None
    for row in rows:
        y += _ROW if before is None or row.at - before < _PAUSE else 2 * _ROW
        before = row.at
        yield y


def _drawn(rows: Sequence[_Row], heights: Sequence[int], xs: Sequence[float], *, is_both: bool) -> Iterator[str]:
    ends: _Ends = {(row.id, row.kind): index for index, row in enumerate(rows) if row.id is not None}
    before = None
    for index, row in enumerate(rows):
        y = heights[index]
        if before is not None and row.at - before >= _PAUSE:
            yield f'<text class="gap" x="4" y="{y - _ROW}">⋮ {_span(row.at - before)}</text>'
        before = row.at
        yield f'<text class="time" x="4" y="{y + 4}">{_time(row.at)}</text>'
        x = xs[row.lane]
        if row.kind in ("received", "answered"):
            yield from _end(rows, ends, index, heights, xs)
        elif row.to is None:
            yield _words(row, x, y)
        else:
            yield from _arrow(row, ends, heights, xs, y, is_both=is_both)


def _arrow(
    row: _Row,
    ends: _Ends,
    heights: Sequence[int],
    xs: Sequence[float],
    y: int,
    *,
    is_both: bool,
) -> Iterator[str]:
    """A message that leaves; where the other side tells when it came, it is drawn to there."""
    assert row.to is not None
    x, to = xs[row.lane], xs[row.to]
    found = ends.get((row.id, "received"))
    is_lost = is_both and row.kind == "check" and found is None
    if is_lost:
        to = x + 0.72 * (to - x)
    end_y = heights[found] if found is not None else y
    tip = "" if is_lost else ' marker-end="url(#tip)"'
    yield f'<line class="{row.kind}" x1="{x:.0f}" y1="{y}" x2="{to:.0f}" y2="{end_y}"{tip}/>'
    if is_lost:
        yield f'<path class="lost" d="M{to - 4:.0f} {y - 4}l8 8m0 -8l-8 8"/>'
    yield _label(row, x, y)


def _end(
    rows: Sequence[_Row],
    ends: _Ends,
    index: int,
    heights: Sequence[int],
    xs: Sequence[float],
) -> Iterator[str]:
    """A message that comes: of one whose sender is not told of, the whole arrow; an answer comes from its request."""
    row = rows[index]
    assert row.to is not None
    y, x, source = heights[index], xs[row.lane], xs[row.to]
    if row.kind == "received":
        if (row.id, "check") in ends:
            return
        yield f'<line class="check" x1="{source:.0f}" y1="{y}" x2="{x:.0f}" y2="{y}" marker-end="url(#tip)"/>'
        yield _label(row, x, y)
        return
    began = ends.get((row.id, "received"))
    begin_y = heights[began] if began is not None else y
    yield (f'<line class="answer" x1="{source:.0f}" y1="{begin_y}" x2="{x:.0f}" y2="{y}" marker-end="url(#tip)"/>')
    yield _label(row, x, y)


def _words(row: _Row, x: float, y: int) -> str:
    dot = f'<circle class="{row.kind}" cx="{x:.0f}" cy="{y}" r="3"/>'
    return dot + _label(row, x, y)


def _label(row: _Row, x: float, y: int) -> str:
    """Outside of the lifelines, where no arrow crosses it."""
    anchor, shift = ("start", 8) if x > _WIDTH / 2 else ("end", -8)
    return _text(row, x + shift, y + 4, anchor)


def _text(row: _Row, x: float, y: float, anchor: str) -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}"'
    return f'<text class="label {row.kind}" {place}>{escape(row.text)}</text>'


def _time(at: float) -> str:
    return f"{1000 * at:.0f} ms" if at < 10 else f"{at:.2f} s"


def _span(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


# What happened, as rows


def _rows(sides: Sequence[Side], lines: Lines) -> Iterator[_Row]:
    for index, side in enumerate(sides):
        if lines is Lines.CHECKS:
            lane, peer = index, 1 - index
            checks = {
                entry.transaction_id
                for other in sides
                if other is not side
                for _, entry in other.entries
                if isinstance(entry, CheckSent) and entry.pair in other.pairs
            }
            is_check = checks.__contains__ if len(sides) > 1 else None
            for at, entry in side.entries:
                yield from _of_peers(side, at, entry, lane, peer, is_check)
        else:
            lane = 2 * index
            for at, entry in side.entries:
                yield from _of_servers(at, entry, lane)


def _of_peers(
    side: Side, at: float, entry: Entry, lane: int, peer: int, is_check: Callable[[bytes], bool] | None
) -> Iterator[_Row]:
    """``is_check`` knows the peer's checks by their transactions, if there is a trace of the peer."""
    match entry:
        case CheckSent(pair=pair, transaction_id=id_, nominating=nominating, triggered=triggered):
            if pair not in side.pairs:
                return  # consent, which is no check
            words = "nominating check" if nominating else "triggered check" if triggered else "check"
            yield _Row(at, lane, f"{words} {_pair(side, pair)}", peer, "check", id_)
        case RequestReceived(transaction_id=id_, code=code, use_candidate=nominates):
            early = is_check(id_) if is_check is not None else at <= (side.completed_at or at)
            if code is None and not nominates and not early:
                return  # the peer asks for consent
            yield _Row(at, lane, "check" if code is None else f"check, refused with {code}", peer, "received", id_)
        case CheckAnswered(transaction_id=id_, code=code, rtt=rtt):
            words = f"answer, {1000 * rtt:.0f} ms" if code is None else f"error {code}"
            yield _Row(at, lane, words, peer, "answered", id_)
        case DialStarted(pair=pair, attempt=attempt):
            again = f", attempt {attempt}" if attempt > 1 else ""
            yield _Row(at, lane, f"SYN {_pair(side, pair)}{again}", peer, "dial")
        case _:
            if (note := _note(entry)) is not None:
                kind, words = note
                yield _Row(at, lane, words, None, kind)


def _note(entry: Entry) -> tuple[str, str] | None:
    match entry:
        case DialFailed(pair=pair, failure=failure, redial_after=after):
            then = "given up" if after is None else f"again in {_span(after)}" if after else "again at once"
            return "bad", f"dial of pair {pair}: {failure}, {then}"
        case StreamOpened(accepted=accepted, remote=remote):
            return "note", f"{'accepted from' if accepted else 'connected to'} {remote}"
        case AcceptWon(pair=pair):
            return "note", f"pair {pair}: accepted connection"
        case FreshPort():
            return "note", "a fresh port"
        case PortsPredicted(allocation=allocation, addresses=addresses):
            return "note", f"ports are {allocation}: {len(addresses)} predicted"
        case Nominated(pair=pair):
            return "good", f"nominates pair {pair}"
        case PathSelected(selected):
            words = "data, nominated" if selected.nominated else "data"
            return "good", f"{words}: {selected.local.transport} {selected.local.type} > {selected.remote.type}"
        case StateChanged(state, verdict):
            bad = state in (AgentState.FAILED, AgentState.DISCONNECTED)
            return ("bad" if bad else "state"), f"{state}{f': {verdict}' if verdict else ''}"
        case GatheringDone():
            return "note", "end of candidates"
        case Restarted(generation=generation):
            return "state", f"restart, generation {generation}"
        case RoleConflict(switched=switched):
            return "note", f"role conflict, {'we switch' if switched else 'the peer has to switch'}"
        case Reopening(dialling=dialling):
            return "bad", f"connection lost: {'we dial' if dialling else 'we wait for the peer'}"
    return None


def _of_servers(at: float, entry: Entry, lane: int) -> Iterator[_Row]:
    match entry:
        case ServerRequestSent(server=server, method=method, transaction_id=id_):
            yield _Row(at, lane, f"{_method(method)} > {server}", 1, "server", id_)
        case ServerAnswered(method=method, code=code, rtt=rtt, transaction_id=id_):
            words = f"{_method(method)} {'success' if code is None else f'error {code}'}, {1000 * rtt:.0f} ms"
            yield _Row(at, lane, words, 1, "answered", id_)


def _method(number: int) -> str:
    try:
        return Method(number).name.replace("_", " ").title().replace(" ", "")
    except ValueError:
        return f"method {number}"


def _pair(side: Side, number: int) -> str:
    pair = side.pairs.get(number)
    if pair is None:
        return f"#{number}"
    kind = pair.local.tcptype or pair.local.transport
    return f"#{number} {kind}, {pair.local.type} > {pair.remote.type}"
