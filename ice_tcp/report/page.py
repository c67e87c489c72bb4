"""The page: one file of HTML that needs nothing else, and runs no script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import PurePath
from typing import Final

from candidates.candidate import Candidate
from ice_tcp.core.events import PairState, ServerReport
from ice_tcp.gather import words
from ice_tcp.report.ladder import Lines, ladder_svg
from ice_tcp.report.story import CandidateTold, PairTold, Side, tell
from ice_tcp.report.style import STYLE
from ice_tcp.report.verdict import headline, path_words
from ice_tcp.tracefile import Trace

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""Of the page's content: it may load nothing, and run nothing."""
_LEGEND: Final = (
    "Time runs downwards, from the beginning of the trace. Solid arrows are connectivity checks, dashed ones their "
    "answers, dotted ones SYNs; an arrow that ends in a cross did not arrive."
)
_KIND: Final = {True: "good", False: "bad", None: ""}
_STATES: Final[dict[PairState | None, str]] = {
    PairState.SUCCEEDED: "good",
    PairState.FAILED: "bad",
}


def report_page(traces: Sequence[Trace], title: str = "A session of ice-tcp") -> str:
    """HTML of one trace, or of two of the same session. Raises StoryError if they are not."""
    # A page that is shared tells no folders.
    sides, notes = tell([replace(trace, name=PurePath(trace.name).name) for trace in traces])
    is_good, sentence = headline(sides)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
            f'<h1 class="{_KIND[is_good]}">{escape(sentence)}</h1>',
            *(f'<p class="note">{escape(note)}</p>' for note in notes),
            *_summaries(sides),
            "<h2>Messages between the two sides</h2>",
            f'<p class="soft">{_LEGEND}</p>',
            f'<div class="scroll" tabindex="0" role="region" aria-label="Ladder">{ladder_svg(sides)}</div>',
            *(part for side in sides for part in _side(side, is_alone=len(sides) == 1)),
            *_server_ladder(sides),
            "</main></body></html>",
            "",
        ]
    )


def _summaries(sides: Sequence[Side]) -> Iterator[str]:
    for side in sides:
        if len(sides) > 1:
            yield f"<h3>{escape(side.name)}</h3>"
        yield "<dl>"
        yield from (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(side))
        yield "</dl>"
        if side.settings:
            yield "<details><summary>Policy, where it is not the default</summary><dl>"
            yield from (f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in side.settings)
            yield "</dl></details>"


def _facts(side: Side) -> Iterator[tuple[str, str]]:
    header = side.trace.header
    yield "Trace", f"{side.trace.name}, by ice-tcp {header.software}" + (", redacted" if header.redacted else "")
    if side.role is not None:
        yield "Role", f"{side.role}, {side.components} component{'' if side.components == 1 else 's'}"
    if side.path is not None:
        path = side.path
        yield "Path", f"{words.described(path.local)} > {words.described(path.remote)}: {path_words(path, side)}"
    began = side.began_checks_at
    for name, at in (("First valid pair", side.connected_at), ("Nominated", side.completed_at)):
        if at is not None and began is not None:
            yield name, f"{_milliseconds(at - began)} after checks began"
    if side.restarts:
        yield "Restarts", str(len(side.restarts))


def _side(side: Side, *, is_alone: bool) -> Iterator[str]:
    yield f"<h2>{'Details' if is_alone else escape(side.name)}</h2>"
    yield "<h3>Pairs</h3>"
    yield from _table(
        ("Pair", "Local", "Remote", "State", "At", "Checks", "Round trip", "Cause"), map(_pair, _ordered(side))
    )
    yield "<h3>Own candidates</h3>"
    yield from _table(("Candidate", "At", "Used", "Told to the peer", "Rule"), map(_local, side.local))
    for ignored in side.ignored_addresses:
        yield f'<p class="note">{escape(ignored.host)} gives no candidates: {escape(ignored.rule)}</p>'
    yield "<h3>Candidates of the peer</h3>"
    yield from _table(("Candidate", "At", "Used", "Rule"), map(_remote, side.remote))
    yield "<h3>NAT</h3>"
    yield from _nat(side)
    yield "<h3>Servers</h3>"
    yield from _table(("Server", "Asked for", "How", "At", "Answer", "Remedy"), map(_server, side.servers.values()))


def _ordered(side: Side) -> list[PairTold]:
    """What data went over first, then what worked, then the rest, each as it came."""
    return sorted(
        side.pairs.values(), key=lambda pair: (not pair.selected, pair.outcome is not PairState.SUCCEEDED, pair.pair)
    )


_Cell = tuple[str, str]
"""Text, and a class."""


def _pair(pair: PairTold) -> tuple[str, list[_Cell]]:
    state = pair.outcome
    marks = [mark for mark, is_so in (("nominated", pair.nominated), ("carried data", pair.selected)) if is_so]
    cause = f"{pair.verdict}: {pair.verdict.remedy}" if pair.verdict is not None else ""
    return "selected" if pair.selected else "", [
        (str(pair.pair), "number"),
        (words.described(pair.local), ""),
        (words.described(pair.remote), ""),
        (", ".join([state.value if state is not None else "removed", *marks]), _STATES.get(state, "")),
        (_milliseconds(pair.outcome_at), "number"),
        (str(pair.checks), "number"),
        ("" if pair.rtt is None else _milliseconds(pair.rtt), "number"),
        (cause, ""),
    ]


def _local(told: CandidateTold) -> tuple[str, list[_Cell]]:
    known = "" if told.told is None else "yes" if told.told else "no"
    return "", [*_candidate(told), (known, ""), (told.rule, "")]


def _remote(told: CandidateTold) -> tuple[str, list[_Cell]]:
    return "", [*_candidate(told), (told.rule, "")]


def _candidate(told: CandidateTold) -> list[_Cell]:
    used = ("yes", "good") if told.used else ("no", "bad")
    return [(_described(told.candidate), ""), (_milliseconds(told.at), "number"), used]


def _described(candidate: Candidate) -> str:
    related = candidate.related_address
    return words.described(candidate) + (f", from {related}" if related is not None else "")


def _nat(side: Side) -> Iterator[str]:
    if not side.mappings:
        yield f'<p class="soft">Not known. {escape(words.NO_SERVERS) if not side.servers else ""}</p>'
    for (transport, host), behaviour in side.mappings.items():
        yield f"<p><strong>{escape(f'{transport}, {host}')}</strong>: {escape(words.MAPPINGS[behaviour])}</p>"
    for prediction in side.predictions:
        text = f"{prediction.base}: ports are {prediction.allocation}, {len(prediction.addresses)} were predicted"
        yield f"<p>{escape(text)}</p>"


def _server(told: tuple[float, ServerReport]) -> tuple[str, list[_Cell]]:
    at, report = told
    failure = report.failure
    return "", [
        (report.server, ""),
        (words.asked(report), ""),
        (words.way(report), ""),
        (_milliseconds(at), "number"),
        (words.answer(report), "good" if failure is None else "bad"),
        ("" if failure is None else failure.remedy, ""),
    ]


def _table(names: Sequence[str], rows: Iterable[tuple[str, list[_Cell]]]) -> Iterator[str]:
    rows = list(rows)
    if not rows:
        yield '<p class="soft">None.</p>'
        return
    yield f"<table><thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr></thead><tbody>"
    for kind, cells in rows:
        shown = "".join(
            f'<td data-label="{escape(name)}"{_class(style)}><span>{escape(text)}</span></td>'
            for name, (text, style) in zip(names, cells, strict=True)
        )
        yield f"<tr{_class(kind)}>{shown}</tr>"
    yield "</tbody></table>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _server_ladder(sides: Sequence[Side]) -> Iterator[str]:
    if any(side.servers for side in sides):
        yield "<details><summary>Messages with servers</summary>"
        yield '<div class="scroll" tabindex="0" role="region" aria-label="Servers">'
        yield f"{ladder_svg(sides, Lines.SERVERS)}</div></details>"


def _milliseconds(span: float) -> str:
    return f"{1000 * span:.0f} ms"
