"""What became of a conversation with a STUN or TURN server: stable codes, remedies, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from candidates.candidate import TransportAddress
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import ErrorCode, ErrorNumber


class ServerVerdict(StrEnum):
    """Cause of a failure that a server told, or that its behaviour showed."""

    NO_RESPONSE = "server-no-response"
    NOT_STUN = "server-not-stun"
    MALFORMED = "server-malformed"
    BAD_INTEGRITY = "server-bad-integrity"
    BID_DOWN = "server-bid-down"
    NO_COMMON_ALGORITHM = "server-no-common-algorithm"
    NO_CREDENTIALS = "server-no-credentials"
    UNEXPECTED_ADDRESS = "server-unexpected-address"
    REDIRECT_LOOP = "server-redirect-loop"
    EXPIRED = "server-allocation-expired"

    TRY_ALTERNATE = "server-error-300"
    BAD_REQUEST = "server-error-400"
    UNAUTHENTICATED = "server-error-401"
    FORBIDDEN = "server-error-403"
    UNKNOWN_ATTRIBUTE = "server-error-420"
    ALLOCATION_MISMATCH = "server-error-437"
    STALE_NONCE = "server-error-438"
    FAMILY_NOT_SUPPORTED = "server-error-440"
    WRONG_CREDENTIALS = "server-error-441"
    TRANSPORT_NOT_SUPPORTED = "server-error-442"
    PEER_FAMILY_MISMATCH = "server-error-443"
    CONNECTION_EXISTS = "server-error-446"
    CONNECTION_FAILED = "server-error-447"
    QUOTA_REACHED = "server-error-486"
    SERVER_ERROR = "server-error-500"
    INSUFFICIENT_CAPACITY = "server-error-508"
    OTHER_ERROR = "server-error"

    @property
    def remedy(self) -> str:
        """One sentence for people: what it means and what to try."""
        return REMEDIES[self]


class Advice(StrEnum):
    """What the owner of a failed machine does next (RFC 8656 s7.4)."""

    STOP = "stop"
    """Nothing, until somebody changed something: the same request would fail again."""
    NEW_SOCKET = "new-socket"
    """Ask again from another local port; after three of them, not for two minutes."""
    ALTERNATE = "alternate"
    """Ask the server that `Failure.alternate` names; `Redirects` tells whether that is allowed."""
    WAIT = "wait"
    """Ask again after `Failure.retry_after` seconds."""
    OTHER_TRANSPORT = "other-transport"
    """Try another server, or another transport to this one."""
    RECONNECT = "reconnect"
    """The allocation is gone: make a new one, with a new machine, on a new socket or connection."""
    UDP_ALLOCATION = "udp-allocation"
    """The server relays no TCP: ask for a UDP allocation, over the same kind of connection."""


Cause: TypeAlias = ServerVerdict | Verdict
"""A `Verdict` where the network failed under the conversation, e.g. Verdict.RESET."""


@dataclass(frozen=True, slots=True)
class ServerFailure:
    """Why a request or a whole machine failed.

    ``text`` is for people: the server's reason phrase, or what was seen. ``alternate`` and ``domain``, the name that
    its certificate shall have, come with Advice.ALTERNATE; ``retry_after``, in seconds, with Advice.WAIT.
    """

    cause: Cause
    text: str = ""
    advice: Advice = Advice.STOP
    retry_after: float | None = None
    alternate: TransportAddress | None = None
    domain: str | None = None

    @property
    def remedy(self) -> str:
        """One sentence for people."""
        return self.cause.remedy

    def __str__(self) -> str:
        return f"{self.cause}: {self.text}" if self.text else str(self.cause)


def failure_of(error: ErrorCode) -> ServerFailure:
    """What an error response tells; the reason phrase is the server's."""
    cause = _CAUSES.get(error.code, ServerVerdict.OTHER_ERROR)
    text = f"{error.code} {error.reason}".rstrip(" \0")  # coturn counts the padding in
    return ServerFailure(cause, text, _ADVICE.get(cause, Advice.STOP), RETRY_AFTER.get(cause))


def no_response(text: str = "") -> ServerFailure:
    """Nothing came back, however often we asked."""
    return ServerFailure(ServerVerdict.NO_RESPONSE, text, Advice.OTHER_TRANSPORT)


_CAUSES: dict[int, ServerVerdict] = {
    ErrorNumber.TRY_ALTERNATE: ServerVerdict.TRY_ALTERNATE,
    ErrorNumber.BAD_REQUEST: ServerVerdict.BAD_REQUEST,
    ErrorNumber.UNAUTHENTICATED: ServerVerdict.UNAUTHENTICATED,
    ErrorNumber.FORBIDDEN: ServerVerdict.FORBIDDEN,
    ErrorNumber.UNKNOWN_ATTRIBUTE: ServerVerdict.UNKNOWN_ATTRIBUTE,
    ErrorNumber.ALLOCATION_MISMATCH: ServerVerdict.ALLOCATION_MISMATCH,
    ErrorNumber.STALE_NONCE: ServerVerdict.STALE_NONCE,
    ErrorNumber.ADDRESS_FAMILY_NOT_SUPPORTED: ServerVerdict.FAMILY_NOT_SUPPORTED,
    ErrorNumber.WRONG_CREDENTIALS: ServerVerdict.WRONG_CREDENTIALS,
    ErrorNumber.UNSUPPORTED_TRANSPORT_PROTOCOL: ServerVerdict.TRANSPORT_NOT_SUPPORTED,
    ErrorNumber.PEER_ADDRESS_FAMILY_MISMATCH: ServerVerdict.PEER_FAMILY_MISMATCH,
    ErrorNumber.CONNECTION_ALREADY_EXISTS: ServerVerdict.CONNECTION_EXISTS,
    ErrorNumber.CONNECTION_TIMEOUT_OR_FAILURE: ServerVerdict.CONNECTION_FAILED,
    ErrorNumber.ALLOCATION_QUOTA_REACHED: ServerVerdict.QUOTA_REACHED,
    ErrorNumber.SERVER_ERROR: ServerVerdict.SERVER_ERROR,
    ErrorNumber.INSUFFICIENT_CAPACITY: ServerVerdict.INSUFFICIENT_CAPACITY,
}

_ADVICE: dict[ServerVerdict, Advice] = {
    ServerVerdict.TRY_ALTERNATE: Advice.ALTERNATE,
    ServerVerdict.ALLOCATION_MISMATCH: Advice.NEW_SOCKET,
    ServerVerdict.QUOTA_REACHED: Advice.WAIT,
    ServerVerdict.INSUFFICIENT_CAPACITY: Advice.WAIT,
    ServerVerdict.SERVER_ERROR: Advice.OTHER_TRANSPORT,
    ServerVerdict.CONNECTION_FAILED: Advice.WAIT,
}

RETRY_AFTER: dict[ServerVerdict, float] = {
    ServerVerdict.QUOTA_REACHED: 60.0,  # RFC 8656 s7.4
    ServerVerdict.INSUFFICIENT_CAPACITY: 60.0,
    ServerVerdict.CONNECTION_FAILED: 10.0,  # RFC 6062 s4.3
}
"""Seconds."""

REMEDIES: dict[ServerVerdict, str] = {
    ServerVerdict.NO_RESPONSE: (
        "The server did not answer: it is down, or a firewall drops the way to it; try TCP or TLS on port 443."
    ),
    ServerVerdict.NOT_STUN: "Something answered that is no STUN server; check host, port and whether it wants TLS.",
    ServerVerdict.MALFORMED: "The server's answer breaks the STUN or TURN specification; the text says how.",
    ServerVerdict.BAD_INTEGRITY: (
        "The server's answers do not prove that it knows the password: it has another one, or they are forged."
    ),
    ServerVerdict.BID_DOWN: (
        "The server announced stronger password algorithms than arrived here; somebody on the way removed them."
    ),
    ServerVerdict.NO_COMMON_ALGORITHM: "The server accepts no password algorithm that is known here.",
    ServerVerdict.NO_CREDENTIALS: "The server wants a user name and password; give the policy's server both.",
    ServerVerdict.UNEXPECTED_ADDRESS: (
        "The server relays with an address that was not asked for or is none; check its relay address setting."
    ),
    ServerVerdict.REDIRECT_LOOP: "The servers send us round in circles; check their alternate-server settings.",
    ServerVerdict.EXPIRED: "The allocation ran out before it could be refreshed; restart ICE.",
    ServerVerdict.TRY_ALTERNATE: "The server sends us to another one.",
    ServerVerdict.BAD_REQUEST: "The server takes our request for malformed; it may be old or of another kind.",
    ServerVerdict.UNAUTHENTICATED: (
        "The server rejects user name or password; short-lived credentials may have expired, or clocks differ."
    ),
    ServerVerdict.FORBIDDEN: "The server's administrator does not allow it; look at its allowed and denied peers.",
    ServerVerdict.UNKNOWN_ATTRIBUTE: "The server does not know a feature that was asked for; leave it out.",
    ServerVerdict.ALLOCATION_MISMATCH: (
        "The server has another idea of this socket: a NAT reused a port, or the server restarted; use a new socket."
    ),
    ServerVerdict.STALE_NONCE: "The server calls every nonce of its own stale; check its clock and settings.",
    ServerVerdict.FAMILY_NOT_SUPPORTED: "The server relays no addresses of that family.",
    ServerVerdict.WRONG_CREDENTIALS: "The allocation belongs to another user name; make a new one.",
    ServerVerdict.TRANSPORT_NOT_SUPPORTED: "The server does not relay that transport; relay UDP instead.",
    ServerVerdict.PEER_FAMILY_MISMATCH: "The relayed address and the peer's are of different families.",
    ServerVerdict.CONNECTION_EXISTS: "The relay has a connection to this peer already, or is opening one.",
    ServerVerdict.CONNECTION_FAILED: "The relay could not connect to the peer; wait ten seconds before the next try.",
    ServerVerdict.QUOTA_REACHED: "This user has as many allocations as the server allows; wait, or raise the quota.",
    ServerVerdict.SERVER_ERROR: "The server failed; look at its log.",
    ServerVerdict.INSUFFICIENT_CAPACITY: "The server has no relayed ports left; wait, or widen its port range.",
    ServerVerdict.OTHER_ERROR: "The server answered with an error of no known kind; the text has its code.",
}
