"""The cases, by what they are about. Importing this package fills `interop.conformance.case.CASES`."""

from interop.conformance.cases import (
    consent,
    framing,
    ice_answers,
    ice_candidates,
    ice_checks,
    ice_conclusion,
    ice_scheduling,
    robustness,
    stun_client,
    stun_messages,
    stun_server,
    tcp_candidates,
    tcp_checks,
    tcp_connections,
    trickle,
)

__all__ = [
    "consent",
    "framing",
    "ice_answers",
    "ice_candidates",
    "ice_checks",
    "ice_conclusion",
    "ice_scheduling",
    "robustness",
    "stun_client",
    "stun_messages",
    "stun_server",
    "tcp_candidates",
    "tcp_checks",
    "tcp_connections",
    "trickle",
]
