"""Why something failed: stable codes, each with what one can do about it.

The same codes stand in events, traces, the command line and metrics.
"""

from __future__ import annotations

from enum import StrEnum

from ice_tcp.core.commands import Failure


class Verdict(StrEnum):
    """Cause of a failed pair, candidate, path or session. Every Failure of the network is one, too."""

    REFUSED = "refused"
    RESET = "reset"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"
    NOT_PERMITTED = "not-permitted"
    ADDRESS_TAKEN = "address-taken"
    ADDRESS_UNAVAILABLE = "address-unavailable"
    PORTS_TAKEN = "ports-taken"
    NO_RESOURCES = "no-resources"
    SELF_CONNECT = "self-connect"
    CLOSED = "closed"
    NOT_STUN = "not-stun"
    TOO_MUCH_EARLY_DATA = "too-much-early-data"
    TLS_CERTIFICATE = "tls-certificate"
    TLS = "tls"
    NO_ADDRESS = "no-address"
    OTHER = "other"

    NO_RESPONSE = "no-response"
    ASYMMETRIC = "asymmetric"
    BAD_REQUEST = "error-400"
    UNAUTHORIZED = "error-401"
    UNKNOWN_ATTRIBUTE = "error-420"
    ROLE_CONFLICT = "error-487"
    ERROR_RESPONSE = "error-response"
    IDLE = "idle"
    SUPERSEDED = "superseded"
    PRUNED = "pruned"
    CONSENT_EXPIRED = "consent-expired"
    NO_LOCAL_CANDIDATES = "no-local-candidates"
    NO_REMOTE_CANDIDATES = "no-remote-candidates"
    NO_PAIRS = "no-pairs"
    ALL_PAIRS_FAILED = "all-pairs-failed"
    PATH_LOST = "path-lost"
    NO_PERMISSION = "no-permission"
    RELAY_NOT_CONNECTED = "relay-not-connected"
    RELAY_LOST = "relay-lost"
    LIMIT_REACHED = "limit-reached"

    @property
    def remedy(self) -> str:
        """One sentence for people: what it means and what to try."""
        return REMEDIES[self]


def verdict_of(failure: Failure) -> Verdict:
    """The verdict with the same code."""
    return Verdict(failure.value)


REMEDIES: dict[Verdict, str] = {
    Verdict.REFUSED: (
        "The address answered with RST: nothing listens there, or a NAT or firewall rejects; check the port and "
        "the firewall of the other end."
    ),
    Verdict.RESET: "The connection was cut by an RST; a NAT may have rebooted or the peer's process ended.",
    Verdict.TIMED_OUT: (
        "Nobody answered the connection attempt; a firewall drops it, or the address is not reachable from here."
    ),
    Verdict.UNREACHABLE: "There is no route to the address; check the address family and the routing table.",
    Verdict.NOT_PERMITTED: "The system forbids it; check the local firewall and the process's privileges.",
    Verdict.ADDRESS_TAKEN: "A connection between these two ports exists already; use a wider port range.",
    Verdict.ADDRESS_UNAVAILABLE: "The local address cannot be bound; the interface may have gone.",
    Verdict.PORTS_TAKEN: "Every port of the policy's range is in use; widen ports.udp or ports.tcp.",
    Verdict.NO_RESOURCES: "The process or system is out of file descriptors or memory; raise the limit.",
    Verdict.SELF_CONNECT: "A socket connected to itself: the peer's candidate is our own address.",
    Verdict.CLOSED: "The other end closed the connection.",
    Verdict.NOT_STUN: "Something answered that is no ICE agent; the candidate belongs to another service.",
    Verdict.TOO_MUCH_EARLY_DATA: "The peer sent more data before authentication than limits.early_bytes keeps.",
    Verdict.TLS_CERTIFICATE: (
        "The server's certificate is not trusted or is for another name; set tls.ca_file or tls.server_name."
    ),
    Verdict.TLS: "The server does not speak TLS on this port, or no version that is known here.",
    Verdict.NO_ADDRESS: "The server's name does not resolve to an address of a family that this host has.",
    Verdict.OTHER: "The system reported an error of no known kind; the trace has its text.",
    Verdict.NO_RESPONSE: "The check got no response; a firewall or NAT drops it, or the peer has gone.",
    Verdict.ASYMMETRIC: "The response came from another address than the request went to (RFC 8445 s7.2.5.2.1).",
    Verdict.BAD_REQUEST: "The peer rejected the check as malformed.",
    Verdict.UNAUTHORIZED: "The peer does not accept the credentials; signaling mixed up sessions or generations.",
    Verdict.UNKNOWN_ATTRIBUTE: "The peer does not understand an attribute that it must understand.",
    Verdict.ROLE_CONFLICT: "Both sides claim one role; it resolves by itself.",
    Verdict.ERROR_RESPONSE: "The peer answered the check with an error; the trace has its code.",
    Verdict.IDLE: "A connection that never authenticated was closed.",
    Verdict.SUPERSEDED: "Another pair was selected.",
    Verdict.PRUNED: "The pair is redundant, or beyond limits.pairs.",
    Verdict.CONSENT_EXPIRED: "The peer no longer answers on the selected path (RFC 7675); restart ICE.",
    Verdict.NO_LOCAL_CANDIDATES: "Nothing could be gathered; look at the policy's interfaces, addresses and types.",
    Verdict.NO_REMOTE_CANDIDATES: "The peer sent no candidate that we can use; look at its policy and at signaling.",
    Verdict.NO_PAIRS: "No local and remote candidate fit together; look at families, transports and tcptypes of both.",
    Verdict.ALL_PAIRS_FAILED: "Every pair failed: no direct path exists; configure a TURN server, or see its report.",
    Verdict.PATH_LOST: "The selected connection was lost and could not be reopened; restart ICE.",
    Verdict.NO_PERMISSION: "The TURN server does not relay to this peer; look at its allowed and denied peers.",
    Verdict.RELAY_NOT_CONNECTED: "The TURN server could not connect to the peer (RFC 6062): its NAT or firewall.",
    Verdict.RELAY_LOST: "The TURN server, or the way to it, is gone; the agent restarts to find another path.",
    Verdict.LIMIT_REACHED: "A limit of the policy was reached; see limits.",
}
