"""When an ALTERNATE-SERVER may be followed (RFC 8489 s10)."""

from __future__ import annotations

from candidates.candidate import TransportAddress
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict

REMEMBERED = 300.0
"""Seconds for which a server that sent us on is not asked again."""
MOST_REDIRECTS = 5
"""Redirections of one request in a row, whatever the servers."""


class Redirects:
    """Where one Allocate request was sent so far, from the first server on; one an allocation that is wanted."""

    __slots__ = ("_asked_at", "_count")

    def __init__(self) -> None:
        self._asked_at: dict[TransportAddress, float] = {}
        self._count = 0

    def asked(self, server: TransportAddress, now: float) -> None:
        """The request goes to ``server``; tell before each attempt."""
        self._asked_at[server] = now

    def follow(self, failure: ServerFailure, now: float) -> TransportAddress | ServerFailure:
        """The server to ask next, after a failure with Advice.ALTERNATE; or the failure that stands instead.

        Raises ValueError for other failures.
        """
        alternate = failure.alternate
        if alternate is None:
            raise ValueError(f"{failure.cause} is no redirection")
        self._count += 1
        seen = now - self._asked_at.get(alternate, float("-inf")) < REMEMBERED
        if seen or self._count > MOST_REDIRECTS:
            return ServerFailure(
                ServerVerdict.REDIRECT_LOOP, f"sent to {alternate} again" if seen else f"to {alternate}"
            )
        return alternate
