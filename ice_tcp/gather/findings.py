"""What one gathering found: candidates and the rules that kept or removed them, servers, NATs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.policy import Policy
from ice_tcp.core.events import MappingBehaviour, Purpose, ServerReport
from ice_tcp.core.outcomes import ServerFailure
from ice_tcp.core.trace import AddressIgnored, CandidateIgnored, Entry, LocalCandidateKept

GATHERED_TYPES = (CandidateType.HOST, CandidateType.SRFLX, CandidateType.RELAY)
"""Peer-reflexive ones are learned from checks."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A candidate that is used; ``rule`` of the policy keeps it, ``telling`` decides whether the peer hears of it."""

    candidate: Candidate
    rule: str
    is_told: bool
    telling: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A candidate that is not used, or an address of this host that gives none, and why."""

    subject: Candidate | str
    rule: str


@dataclass(frozen=True, slots=True)
class ServerOutcome:
    """Everything that one server was asked; no reports mean that the policy wants nothing of it."""

    url: str
    reports: tuple[ServerReport, ...]

    @property
    def is_good(self) -> bool:
        """Whether it gave, in one way at least, everything that it was asked for."""
        asked = {report.purpose for report in self.reports} - {Purpose.MAPPING}
        return asked <= {report.purpose for report in self.reports if report.failure is None}

    @property
    def failures(self) -> tuple[ServerFailure, ...]:
        """One for each cause."""
        by_cause = {report.failure.cause: report.failure for report in self.reports if report.failure is not None}
        return tuple(by_cause.values())


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known ``seconds`` after gathering began; ``mappings`` are by transport and address of this host."""

    kept: tuple[Kept, ...] = ()
    removed: tuple[Removed, ...] = ()
    servers: tuple[ServerOutcome, ...] = ()
    mappings: Mapping[tuple[Transport, str], MappingBehaviour] = field(default_factory=dict)
    seconds: float = 0.0
    is_done: bool = False

    @property
    def is_good(self) -> bool:
        """Whether there are candidates, and every server gave what it was asked for."""
        return bool(self.kept) and all(server.is_good for server in self.servers)

    @property
    def own_addresses(self) -> frozenset[TransportAddress]:
        """Those of the host candidates: a server that sees one of them sees no NAT."""
        return frozenset(each.candidate.address for each in self.kept if each.candidate.type is CandidateType.HOST)


class Notes:
    """The trace of an agent, as far as it tells of gathering. Its sink is `note`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._kept: list[Kept] = []
        self._removed: list[Removed] = []

    def note(self, _: float, record: Entry) -> None:
        match record:
            case LocalCandidateKept(candidate, advertised, rule):
                self._kept.append(Kept(candidate, self._policy.keeps_local(candidate).rule, advertised, rule))
            case CandidateIgnored(candidate, rule):
                self._removed.append(Removed(candidate, rule))
            case AddressIgnored(host, rule):
                self._removed.append(Removed(host, rule))

    def findings(
        self,
        reports: tuple[ServerReport, ...],
        behaviours: Mapping[tuple[Transport, str], MappingBehaviour],
        seconds: float,
        *,
        is_done: bool,
    ) -> Findings:
        """All that was found so far, the best candidates first."""
        return Findings(
            tuple(sorted(self._kept, key=lambda each: -each.candidate.priority)),
            (*left_out(self._policy), *dict.fromkeys(self._removed)),
            tuple(self._outcomes(reports)),
            _mappings(reports, behaviours),
            seconds,
            is_done,
        )

    def _outcomes(self, reports: tuple[ServerReport, ...]) -> list[ServerOutcome]:
        urls = dict.fromkeys(str(server.url) for server in self._policy.servers)
        return [ServerOutcome(url, tuple(report for report in reports if report.server == url)) for url in urls]


def left_out(policy: Policy) -> tuple[Removed, ...]:
    """Kinds of candidates that are not even begun with."""
    return tuple(
        Removed(f"{kind} candidates", f"{key}: {kind} is not among them")
        for key, kinds in (
            ("transports", [each for each in Transport if each not in policy.transports]),
            ("candidate_types", [each for each in GATHERED_TYPES if each not in policy.candidate_types]),
            ("tcp_types", [each for each in TcpType if each not in policy.tcp_types]),
        )
        for kind in kinds
    )


def _mappings(
    reports: tuple[ServerReport, ...], behaviours: Mapping[tuple[Transport, str], MappingBehaviour]
) -> dict[tuple[Transport, str], MappingBehaviour]:
    """Of everything that servers were asked about; what too few of them answered is unknown."""
    asked = {
        (report.transport, report.host)
        for report in reports
        if report.purpose is Purpose.REFLEXIVE and report.transport is not None and report.host is not None
    }
    ordered = sorted(asked, key=lambda place: (place[1], place[0] is Transport.TCP))
    return {place: behaviours.get(place, MappingBehaviour.UNKNOWN) for place in ordered}
