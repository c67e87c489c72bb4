"""What happened in a session, put together from the traces of one side or of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from candidates.candidate import Candidate
from ice_tcp.core.events import (
    AgentState,
    MappingBehaviour,
    MappingFound,
    PairChanged,
    PairState,
    PathSelected,
    Restarted,
    Role,
    RoleChanged,
    SelectedPath,
    ServerReport,
    ServerReported,
    StateChanged,
)
from ice_tcp.core.trace import (
    AddressIgnored,
    CandidateIgnored,
    CheckAnswered,
    CheckSent,
    Entry,
    LocalCandidateKept,
    PeerReflexiveFound,
    PortsPredicted,
    RemoteCandidateKept,
    RequestReceived,
    SessionBegan,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.tracefile import Trace

_FARTHEST: Final = 3600.0
"""Seconds between the beginnings of two traces of one session, if their clocks are right."""


class StoryError(ValueError):
    """These traces are not those of one session."""


@dataclass(slots=True)
class CandidateTold:
    """A candidate; ``rule`` says why it is used or not, ``told`` whether the peer hears of it; None if it is theirs."""

    at: float
    candidate: Candidate
    rule: str
    used: bool
    told: bool | None = None


@dataclass(slots=True)
class PairTold:
    """A pair, and its states so far, each with its time. ``state`` None: it left the check list."""

    pair: int
    component: int
    local: Candidate
    remote: Candidate
    states: list[tuple[float, PairState | None]] = field(default_factory=list)
    verdict: Verdict | None = None
    checks: int = 0
    rtt: float | None = None
    nominated: bool = False
    selected: bool = False

    @property
    def outcome(self) -> PairState | None:
        """Its last state but for leaving the list, which all pairs do in the end."""
        return self._last[1]

    @property
    def outcome_at(self) -> float:
        return self._last[0]

    @property
    def _last(self) -> tuple[float, PairState | None]:
        return next(((at, state) for at, state in reversed(self.states) if state is not None), self.states[-1])


@dataclass(slots=True)
class Side:
    """One side's story. All times are seconds on one axis, that of the page, whose 0 is the beginning of it all."""

    name: str
    trace: Trace
    entries: list[tuple[float, Entry]]
    role: Role | None = None
    components: int = 1
    settings: tuple[tuple[str, str], ...] = ()
    local: list[CandidateTold] = field(default_factory=list)
    remote: list[CandidateTold] = field(default_factory=list)
    ignored_addresses: list[AddressIgnored] = field(default_factory=list)
    pairs: dict[int, PairTold] = field(default_factory=dict)
    states: list[tuple[float, AgentState, Verdict | None]] = field(default_factory=list)
    paths: list[tuple[float, SelectedPath]] = field(default_factory=list)
    servers: dict[object, tuple[float, ServerReport]] = field(default_factory=dict)
    mappings: dict[tuple[str, str], MappingBehaviour] = field(default_factory=dict)
    predictions: list[PortsPredicted] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)

    @property
    def began_checks_at(self) -> float | None:
        return self._first(AgentState.CHECKING)

    @property
    def connected_at(self) -> float | None:
        """A path carries data from then on."""
        return self._first(AgentState.CONNECTED, AgentState.COMPLETED)

    @property
    def completed_at(self) -> float | None:
        return self._first(AgentState.COMPLETED)

    @property
    def path(self) -> SelectedPath | None:
        """The last path that carried data."""
        return self.paths[-1][1] if self.paths else None

    @property
    def failure(self) -> Verdict | None:
        """Why the session failed, if that was its end."""
        ends = [(state, verdict) for _, state, verdict in self.states if state is not AgentState.CLOSED]
        state, verdict = ends[-1] if ends else (None, None)
        return (verdict or Verdict.OTHER) if state is AgentState.FAILED else None

    def _first(self, *states: AgentState) -> float | None:
        return next((at for at, state, _ in self.states if state in states), None)


def tell(traces: Sequence[Trace]) -> tuple[list[Side], list[str]]:
    """The sides of a session, from one trace or two, and what a reader should know of the traces.

    Two are put on one axis by their wall clocks, and where those contradict the messages, by the messages. Raises
    StoryError for other numbers of traces, and for two that are not of one session.
    """
    if len(traces) not in (1, 2):
        raise StoryError("one trace or two make a report")
    notes = [note for trace in traces for note in trace.notes]
    offsets = [trace.header.wall for trace in traces]
    if len(traces) == 2:
        shift, note = _shift(traces[0], traces[1])
        offsets[1] += shift
        notes += [note] if note else []
    firsts = [offset + trace.entries[0][0] for offset, trace in zip(offsets, traces, strict=True) if trace.entries]
    zero = min(firsts, default=offsets[0])
    names = ("Left", "Right") if len(traces) == 2 else ("This side",)
    sides = []
    for name, trace, offset in zip(names, traces, offsets, strict=True):
        entries = [(at + offset - zero, entry) for at, entry in trace.entries]
        side = Side(name, trace, entries)
        for at, entry in entries:
            _take(side, at, entry)
        sides.append(side)
    return sides, notes


def _shift(one: Trace, other: Trace) -> tuple[float, str | None]:
    """Seconds to add to the other's wall clock, so that no message arrives before it was sent."""
    low, high = float("-inf"), float("inf")
    met = False
    for sender, receiver, sign in ((one, other, 1.0), (other, one, -1.0)):
        sent, answered = _exchanges(sender)
        for at, entry in receiver.entries:
            if not isinstance(entry, RequestReceived) or entry.transaction_id not in sent:
                continue
            met = True
            received = receiver.header.wall + at
            early, late = sent[entry.transaction_id], answered.get(entry.transaction_id)
            bounds = [early - received] if late is None else [early - received, late - received]
            if sign > 0:
                low = max(low, bounds[0])
                high = min(high, *bounds[1:]) if late is not None else high
            else:
                high = min(high, -bounds[0])
                low = max(low, -bounds[1]) if late is not None else low
    if not met and abs(one.header.wall - other.header.wall) > _FARTHEST:
        raise StoryError("the traces are not of one session: they are hours apart, and share no check")
    if not met:
        return 0.0, "No check of one side stands in the other's trace; the times are those of the two clocks."
    if low <= 0.0 <= high or low > high:
        return 0.0, None
    shift = (low + high) / 2 if high - low < _FARTHEST else (low if low > 0 else high)
    return shift, f"The clocks of the two hosts were some {1000 * abs(shift):.0f} ms apart; the checks show it."


def _exchanges(trace: Trace) -> tuple[dict[bytes, float], dict[bytes, float]]:
    """When checks were sent, and when they were answered, by transaction, on the side's wall clock."""
    sent: dict[bytes, float] = {}
    answered: dict[bytes, float] = {}
    for at, entry in trace.entries:
        match entry:
            case CheckSent(transaction_id=id_):
                sent[id_] = trace.header.wall + at
            case CheckAnswered(transaction_id=id_):
                answered[id_] = trace.header.wall + at
    return sent, answered


def _take(side: Side, at: float, entry: Entry) -> None:  # one case a kind
    match entry:
        case SessionBegan(role, components, settings):
            side.role, side.components, side.settings = role, components, settings
        case RoleChanged(role):
            side.role = role
        case LocalCandidateKept(candidate, told, rule):
            side.local.append(CandidateTold(at, candidate, rule, True, told))
        case CandidateIgnored(candidate, rule, remote):
            (side.remote if remote else side.local).append(CandidateTold(at, candidate, rule, False))
        case RemoteCandidateKept(candidate):
            side.remote.append(CandidateTold(at, candidate, "signaled", True))
        case PeerReflexiveFound(candidate, remote):
            rule = "learned from a check" if remote else "seen by the peer"
            (side.remote if remote else side.local).append(CandidateTold(at, candidate, rule, True))
        case AddressIgnored():
            side.ignored_addresses.append(entry)
        case PairChanged():
            _take_pair(side, at, entry)
        case CheckSent(pair=number, nominating=nominating):
            if (pair := side.pairs.get(number)) is not None:
                pair.checks += 1
                pair.nominated |= nominating
        case CheckAnswered(pair=number, code=None, rtt=rtt):
            if (pair := side.pairs.get(number)) is not None:
                pair.rtt = rtt
        case StateChanged(state, verdict):
            side.states.append((at, state, verdict))
        case PathSelected(selected):
            side.paths.append((at, selected))
            for pair in side.pairs.values():
                pair.selected |= (pair.local, pair.remote) == (selected.local, selected.remote)
        case ServerReported(report):
            side.servers[report.subject] = (at, report)
        case MappingFound(transport, host, behaviour):
            side.mappings[transport, host] = behaviour
        case PortsPredicted():
            side.predictions.append(entry)
        case Restarted():
            side.restarts.append(at)
        case _:
            pass  # the ladder draws the rest


def _take_pair(side: Side, at: float, entry: PairChanged) -> None:
    told = side.pairs.get(entry.pair)
    if told is None:
        told = side.pairs[entry.pair] = PairTold(entry.pair, entry.component, entry.local, entry.remote)
    told.states.append((at, entry.state))
    if entry.verdict is not None and told.outcome is not PairState.SUCCEEDED:
        told.verdict = entry.verdict
    told.local, told.remote = entry.local, entry.remote
