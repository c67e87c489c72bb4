"""Why an address, a candidate or a pair takes part or not, in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from candidates.candidate import Candidate, InterfaceAddress
from candidates.pairing import Refusal, refusal
from candidates.policy.rulings import Ruling

if TYPE_CHECKING:
    from candidates.policy.model import Policy


class Stage(StrEnum):
    """Where on its way something is judged."""

    ADDRESS = "address"
    """May candidates be gathered from this address of the machine?"""
    GATHER = "gather"
    """Is the local candidate kept?"""
    ADVERTISE = "advertise"
    """Is the peer told of it?"""
    REMOTE = "remote"
    """Is the peer's candidate used?"""
    PAIRING = "pairing"
    """Do the two candidates make a pair? Not the policy's decision, but RFC 8445's and RFC 6544's."""


PAIRING_RULES: dict[Refusal, str] = {
    Refusal.COMPONENT: "the candidates belong to different components (RFC 8445 s6.1.2.2)",
    Refusal.TRANSPORT: "one candidate is UDP and the other TCP",
    Refusal.NAME: "the remote address is a name that is not resolved (RFC 8839 s5.1)",
    Refusal.ADDRESS: "the remote address is nobody's: unspecified, multicast, or port 0",
    Refusal.FAMILY: "one address is IPv4 and the other IPv6 (RFC 8445 s6.1.2.2)",
    Refusal.LINK_LOCAL: "an IPv6 link-local address pairs only with another one (RFC 8445 s6.1.2.2)",
    Refusal.TCPTYPE: "their tcptypes do not fit together (RFC 6544 s6.2)",
    Refusal.LOCAL_PASSIVE: "a local passive candidate waits for the peer to connect (RFC 6544 s6.2)",
    Refusal.REDUNDANT: "a pair of higher priority has the same base and remote candidate (RFC 8445 s6.1.2.4)",
    Refusal.LIMIT: "limits.pairs better pairs fill the check list (RFC 8445 s6.1.2.5)",
}
"""Each refusal of ``candidates.pairing`` in words."""


@dataclass(frozen=True, slots=True)
class Step:
    """One judgement on the way."""

    stage: Stage
    ruling: Ruling


@dataclass(frozen=True, slots=True)
class Explanation:
    """``subject`` in words, and every judgement on it in order. Its text has a line for each."""

    subject: str
    steps: tuple[Step, ...]

    @property
    def kept(self) -> bool:
        """Whether it takes part in checks; what the peer is told does not matter for that."""
        return all(step.ruling.kept for step in self.steps if step.stage is not Stage.ADVERTISE)

    def __str__(self) -> str:
        lines = [f"{self.subject}: {'kept' if self.kept else 'removed'}"]
        lines += [f"  {step.stage}: {step.ruling}" for step in self.steps]
        return "\n".join(lines)


def explain(
    policy: Policy, address: InterfaceAddress | None, local: Candidate | None, remote: Candidate | None
) -> Explanation:
    """See ``Policy.explain``."""
    subjects, steps = [], []
    if address is not None:
        subjects.append(f"{address.host} on {address.interface}")
        steps.append(Step(Stage.ADDRESS, policy.keeps_address(address)))
    if local is not None:
        subjects.append(f"local {_words(local)}")
        steps.append(Step(Stage.GATHER, policy.keeps_local(local)))
        steps.append(Step(Stage.ADVERTISE, policy.advertises(local)))
    if remote is not None:
        subjects.append(f"remote {_words(remote)}")
        steps.append(Step(Stage.REMOTE, policy.keeps_remote(remote)))
    if local is not None and remote is not None:
        steps.append(Step(Stage.PAIRING, _pairing(local, remote)))
    return Explanation(", ".join(subjects), tuple(steps))


def _words(candidate: Candidate) -> str:
    kind = f"{candidate.transport} {candidate.type}"
    return f"{kind} {candidate.tcptype} {candidate.address}" if candidate.tcptype else f"{kind} {candidate.address}"


def _pairing(local: Candidate, remote: Candidate) -> Ruling:
    refused = refusal(local, remote)
    if refused is None:
        return Ruling(True, "pairing: the candidates fit together")
    return Ruling(False, f"{refused}: {PAIRING_RULES[refused]}")
