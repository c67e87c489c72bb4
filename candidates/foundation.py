"""Foundations: which candidates are likely to share their fate (RFC 8445 s5.1.1.3)."""

from __future__ import annotations

from functools import lru_cache

from candidates.candidate import CandidateType, TcpType, Transport

_number = lru_cache(256)(str)
"""Many agents have few foundations each."""


class Foundations:
    """Gives the candidates of one agent their foundations: the same properties, the same foundation."""

    def __init__(self) -> None:
        self._assigned: dict[tuple[CandidateType, str, Transport, TcpType | None, str | None], str] = {}

    def of(
        self,
        type: CandidateType,  # noqa: A002 - the RFC's word
        base_host: str,
        transport: Transport,
        tcptype: TcpType | None,
        server: str | None = None,
    ) -> str:
        """The foundation of a candidate, a decimal number as text.

        ``base_host`` is the IP address of the base, without its port. ``server`` is the IP address of the STUN or
        TURN server as the agent contacted it; None for host candidates.

        The tcptype counts, as in the examples of RFC 6544 Appendix C: with one foundation for all three, a hanging
        active dial would keep the simultaneous-open pairs frozen.
        """
        properties = (type, base_host, transport, tcptype, server)
        return self._assigned.setdefault(properties, _number(len(self._assigned) + 1))
