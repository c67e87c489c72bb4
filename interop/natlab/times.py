"""How many round trips it takes: the first valid pair, the nomination, and data through a relay.

Times count from the moment that the later side starts its checks, in round trips between the hosts; each agent has one
pair to check, for every earlier pair of its list would add Ta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

from ice_tcp import read_trace
from ice_tcp.core.exchanges import ServerAnswered, ServerRequestSent
from ice_tcp.core.trace import CheckAnswered, Entry
from ice_tcp.stun import Method
from interop.natlab.internet import LADDER_FILE
from interop.natlab.kinds import Site
from interop.natlab.results import CellResult
from interop.natlab.runner import CellReport
from interop.natlab.scenario import Leg, Scenario, Transports

ROUNDS: Final = 20
"""Runs of each cell, of which the median counts."""
_SKEW: Final = 0.3
"""Seconds that the late side starts later."""
_RELAY_ROUND_TRIPS: Final = 3.0
"""Of the relayed path, which is twice as long as a direct one: hosts and servers are equally far from each other."""
_PATH: Final = 2
_SHOWN: Final = 80

_ONE_PAIR: Final[Mapping[Transports, Mapping[str, Any]]] = {
    Transports.UDP: {"candidate_types": ["srflx"]},
    Transports.TCP: {"candidate_types": ["srflx"], "tcp_types": ["so"]},
}
"""Policies that leave each agent one pair of server-reflexive candidates."""

Reader: TypeAlias = Callable[[CellResult], float | None]
"""Reads one figure from a run, in round trips."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its limit: the median of what ``reader`` finds in the runs of a cell, in round trips."""

    title: str
    limit: float
    cells: tuple[int, ...]
    """Which of the row's cells it is read from."""
    reader: Reader


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: cells, and what is read from them."""

    title: str
    cells: tuple[Scenario, ...]
    figures: tuple[Figure, ...]
    is_relayed: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """What a figure came to."""

    figure: Figure
    values: tuple[float, ...]
    missing: int
    """Runs that did not get so far."""
    worst: CellResult

    @property
    def p50(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def is_met(self) -> bool:
        return self.p50 is not None and not self.missing and self.p50 <= self.figure.limit


@dataclass(frozen=True, slots=True)
class TimedRow:
    """A row, measured."""

    row: Row
    timings: tuple[Timing, ...]
    steps: Mapping[str, float]
    """Of a relayed row: the median round trips that each step took."""

    @property
    def is_met(self) -> bool:
        return all(timing.is_met for timing in self.timings)


def rows(base: Scenario) -> tuple[Row, ...]:
    """What is timed; weather and signaling are those of ``base``."""
    direct = (
        ("UDP direct", "port-restricted", Transports.UDP, (1.1, 1.6, 2.1, 2.6)),
        ("TCP direct, dropping NATs", "port-restricted", Transports.TCP, (2.1, 2.6, 3.1, 3.6)),
        ("TCP direct, RST-answering NATs", "port-restricted+rst", Transports.TCP, (2.7, 3.2, 3.8, 4.3)),
    )
    relayed = (
        ("relay, UDP to the server", Transports.UDP, Leg.UDP),
        ("relay, TCP to the server", Transports.UDP, Leg.TCP),
        ("relay, TLS to the server", Transports.UDP, Leg.TLS),
        ("relay, RFC 6062", Transports.TCP, Leg.TCP),
    )
    return (
        *(_direct(base, title, Site.parse(site), transports, limits) for title, site, transports, limits in direct),
        *(_relayed(base, title, transports, leg) for title, transports, leg in relayed),
    )


def cells_of(timed: Sequence[Row]) -> list[Scenario]:
    return [cell for row in timed for cell in row.cells]


def measured(timed: Sequence[Row], reports: Sequence[CellReport]) -> list[TimedRow]:
    """``reports`` are those of `cells_of`, in its order."""
    remaining = iter(reports)
    return [_measure(row, [next(remaining) for _ in row.cells]) for row in timed]


def lines(measurements: Sequence[TimedRow]) -> list[str]:
    """The tables, and the packets of what was too slow."""
    out = ["", "Round trips from the start of the later side, median and limit"]
    for row in measurements:
        figures = [f"{timing.figure.title} {_number(timing.p50)} of {timing.figure.limit:g}" for timing in row.timings]
        out.append(f"{'ok  ' if row.is_met else 'FAIL'} {row.row.title}: {', '.join(figures)}")
    out += ["", "Round trips to the server, or of the path, that each step of a relay takes"]
    for row in measurements:
        if row.row.is_relayed:
            out.append(f"     {row.row.title}: {', '.join(f'{step} {value:.1f}' for step, value in row.steps.items())}")
    for row in measurements:
        out += _slow_packets(row)
    return out


def as_json(measurements: Sequence[TimedRow]) -> list[dict[str, Any]]:
    return [
        {
            "row": row.row.title,
            "ok": row.is_met,
            "figures": [
                {
                    "title": timing.figure.title,
                    "limit": timing.figure.limit,
                    "p50": timing.p50,
                    "values": list(timing.values),
                    "missing": timing.missing,
                }
                for timing in row.timings
            ],
            "steps": dict(row.steps),
        }
        for row in measurements
    ]


# Rows


def _direct(
    base: Scenario, title: str, site: Site, transports: Transports, limits: tuple[float, float, float, float]
) -> Row:
    cell = replace(base, left=site, right=site, transports=transports, policy=_ONE_PAIR[transports], skew=_SKEW)
    late_controls = replace(cell, right_controls=True)
    early_controls = replace(cell, right_controls=False)
    late, early, late_nominated, early_nominated = limits
    return Row(
        title,
        (late_controls, early_controls),
        (
            Figure("late side valid", late, (0, 1), lambda result: result.in_rtt(result.right, "valid")),
            Figure("early side valid", early, (0, 1), lambda result: result.in_rtt(result.left, "valid")),
            Figure("late controls: nominated", late_nominated, (0,), _nominated),
            Figure("early controls: nominated", early_nominated, (1,), _nominated),
        ),
    )


def _relayed(base: Scenario, title: str, transports: Transports, leg: Leg) -> Row:
    site = Site.parse("symmetric-random")
    cell = replace(base, left=site, right=site, transports=transports, skew=0.0, legs=(leg,))
    limit = _RELAY_ROUND_TRIPS
    return Row(title, (cell,), (Figure("data, of its path", limit, (0,), _data_over_relay),), is_relayed=True)


def _nominated(result: CellResult) -> float | None:
    """Both sides have the nominated path."""
    times = [result.in_rtt(side, "nominated") for side in result.sides]
    known = [each for each in times if each is not None]
    return max(known) if len(known) == len(times) else None


def _data_over_relay(result: CellResult) -> float | None:
    """In round trips of the relayed path."""
    time = result.time_to_data
    return None if time is None else time / result.scenario.weather.rtt / _PATH


# Measurement


def _measure(row: Row, reports: Sequence[CellReport]) -> TimedRow:
    timings = []
    for figure in row.figures:
        runs = [result for cell in figure.cells for result in reports[cell].results]
        found = [(figure.reader(result), result) for result in runs]
        values = tuple(value for value, _ in found if value is not None)
        worst = max(found, key=lambda each: float("inf") if each[0] is None else each[0])[1]
        timings.append(Timing(figure, values, len(found) - len(values), worst))
    return TimedRow(row, tuple(timings), _steps(reports[0].results) if row.is_relayed else {})


def _steps(results: Sequence[CellResult]) -> dict[str, float]:
    """The median of each step's time in round trips, where a run shows it."""
    found: dict[str, list[float]] = {}
    for result in results:
        for side in ("left", "right"):
            for step, seconds in _steps_of(result, side):
                found.setdefault(step, []).append(seconds / result.scenario.weather.rtt)
    return {step: median(values) for step, values in found.items()}


def _steps_of(result: CellResult, side: str) -> Iterator[tuple[str, float]]:
    """What one side asked of its server, and how long the answers took, the first of each kind."""
    opened_at = _first_syn(result, side)
    asked: dict[str, float] = {}
    answered: dict[str, float] = {}
    checks = []
    for at, entry in _trace(result, side):
        match entry:
            case ServerRequestSent(method=method):
                asked.setdefault(_step_of(method), at)
            case ServerAnswered(method=method, code=None):
                answered.setdefault(_step_of(method), at)
            case CheckAnswered(rtt=rtt, code=None):
                checks.append(rtt)
    if opened_at is not None and "allocate" in asked:
        yield "connection", asked["allocate"] - opened_at
    for step in ("allocate", "permission", "connect", "bind connection", "bind channel"):
        if step in asked and step in answered:
            yield step, answered[step] - asked[step]
    outcome = result.left if side == "left" else result.right
    if checks:
        yield "check", checks[0]
    valid, data = (result.seconds(outcome, moment) for moment in ("valid", "data"))
    if valid is not None and data is not None:
        yield "first data after that", max(0.0, data - valid)


_STEPS: Final = {
    Method.ALLOCATE: "allocate",
    Method.CREATE_PERMISSION: "permission",
    Method.CONNECT: "connect",
    Method.CONNECTION_BIND: "bind connection",
    Method.CHANNEL_BIND: "bind channel",
}


def _step_of(method: int) -> str:
    return _STEPS.get(Method(method), "")


def _trace(result: CellResult, side: str) -> list[tuple[float, Entry]]:
    """What the agent told, with times on this machine's monotonic clock."""
    trace = read_trace(Path(result.directory, f"{side}.jsonl"))
    return [(trace.header.clock + at, entry) for at, entry in trace.entries]


def _first_syn(result: CellResult, side: str) -> float | None:
    """When the host began to connect to the server, if it did."""
    if result.zero is None:
        return None
    for line in _packets(result):
        sent, _, way = line.split(maxsplit=2)
        if way.startswith(f"{side} > server") and way.endswith("TCP SYN"):
            return result.zero + float(sent) / 1000
    return None


def _packets(result: CellResult) -> list[str]:
    path = Path(result.directory, LADDER_FILE)
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _slow_packets(row: TimedRow) -> list[str]:
    """Of each missed figure, the packets of its worst run from its start on."""
    out = []
    for timing in row.timings:
        if not timing.is_met:
            lost = f", {timing.missing} runs without" if timing.missing else ""
            out += ["", f"{row.row.title}, {timing.figure.title}: too slow{lost}. The slowest run, in milliseconds:"]
            out += [line for line in _packets(timing.worst) if float(line.split()[0]) > -100.0][:_SHOWN]
    return out
