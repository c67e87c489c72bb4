"""Signaling with latency and without order, and the candidates that a NAT adds on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from candidates.candidate import Candidate, CandidateType, TcpType, TransportAddress
from candidates.parameters import IceParameters
from candidates.priority import candidate_priority
from ice_tcp.core.events import GatheringDone, LocalCandidateFound, Restarted
from tests.sim.host import Host
from tests.sim.ladder import words
from tests.sim.packets import Endpoint
from tests.sim.shell import SimShell

SRFLX_FOUNDATION = "s"
"""Prefix of the foundations of reflexive candidates: distinct from every host candidate's."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds: every message takes ``base`` and up to ``jitter`` more; parameters take ``parameters`` more.

    Those of a restart take ``restart`` more again: longer than consent holds without an answer.
    """

    base: float = 0.05
    jitter: float = 0.1
    parameters: float = 0.0
    restart: float = 0.0


def with_reflexive(host: Host, candidate: Candidate) -> list[Candidate]:
    """What the peer is told instead of a host candidate: also how it looks from outside of the NATs.

    This models the server-reflexive candidates that a gatherer with STUN servers finds from the same port.
    """
    if candidate.tcptype is TcpType.ACTIVE:
        return [candidate]
    local = Endpoint(candidate.address.host, candidate.address.port)
    seen = host.reflexive(candidate.transport, local)
    if seen is None or seen == local:
        return [candidate]
    reflexive = replace(
        candidate,
        foundation=SRFLX_FOUNDATION + candidate.foundation,
        type=CandidateType.SRFLX,
        address=TransportAddress(*seen),
        related_address=candidate.address,
        priority=candidate_priority(
            type=CandidateType.SRFLX,
            transport=candidate.transport,
            tcptype=candidate.tcptype,
            component=candidate.component,
            rank=_rank(candidate),
        ),
    )
    return [candidate, reflexive]


def _rank(candidate: Candidate) -> int:
    """The rank of the candidate's address, from its local preference (RFC 8445 s5.1.2.1, RFC 6544 s4.2)."""
    preference = candidate.priority >> 8 & 0xFFFF
    return 65535 - preference if candidate.tcptype is None else 8191 - (preference & 0x1FFF)


class Signaling:
    """One direction, from ``sender`` to ``receiver``; loss-free, each message with a latency of its own.

    What belongs together stays so: the end of candidates comes after everything of its generation, and parameters
    come in their order. One that
    ``knows_nats`` adds the candidates that servers would have given.
    """

    def __init__(
        self, sender: SimShell, receiver: SimShell, latency: Latency, rng: Random, *, knows_nats: bool
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self.told: list[Candidate] = []
        self._latency = latency
        self._knows_nats = knows_nats
        self._rng = rng
        self._last_at = 0.0
        self._parameters_at = 0.0

    def parameters(self, parameters: IceParameters, extra: float = 0.0) -> None:
        """Tell the peer the credentials of a generation."""
        self._parameters_at = self._deliver(
            self._latency.parameters + extra,
            "parameters",
            lambda now: self.receiver.agent.set_remote_parameters(parameters, now),
            self._parameters_at,
        )

    def candidate(self, event: LocalCandidateFound) -> None:
        found = event.candidate
        self.sender.watch.tells(found)
        for candidate in with_reflexive(self.sender.host, found) if self._knows_nats else [found]:
            self._tell(candidate)

    def _tell(self, candidate: Candidate) -> None:
        self.told.append(candidate)
        self._deliver(0.0, words(candidate), lambda now: self.receiver.agent.add_remote_candidate(candidate, now))

    def restarted(self, event: Restarted) -> None:
        self.told.clear()
        self.parameters(event.parameters, self._latency.restart)

    def done(self, event: GatheringDone) -> None:
        """The end of candidates: nothing overtakes it, and it overtakes nothing."""
        generation = event.generation
        at = max(self._last_at, self._now + self._latency.base)

        def end(now: float) -> None:
            if self.receiver.agent.generation == generation:
                self.receiver.agent.end_of_candidates(now)

        self.sender.clock.at(at, lambda: self._give("end of candidates", end))

    @property
    def _now(self) -> float:
        return self.sender.clock.now

    def _deliver(self, extra: float, what: str, give: Callable[[float], None], not_before: float = 0.0) -> float:
        at = max(not_before, self._now + self._latency.base + self._rng.random() * self._latency.jitter + extra)
        self._last_at = max(self._last_at, at)
        self.sender.clock.at(at, lambda: self._give(what, give))
        return at

    def _give(self, what: str, give: Callable[[float], None]) -> None:
        self.sender.world.note(self.receiver.name, f"< {what}")
        if not self.receiver.dead and not self.receiver.closed:
            self.receiver.input(give)
