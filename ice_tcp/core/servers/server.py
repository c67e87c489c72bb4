"""The servers of a policy, as one agent uses them."""

from __future__ import annotations

from dataclasses import dataclass, field

from candidates.candidate import Transport, TransportAddress
from candidates.policy import Policy
from candidates.policy.servers import Scheme, ServerPolicy, ServerUri
from ice_tcp.core.commands import LegTransport, ServerEndpoint, TlsOptions
from ice_tcp.core.turn import Credentials, short_lived_credentials


@dataclass(frozen=True, slots=True)
class Server:
    """A STUN or TURN server with the credentials of now. ``rank`` is its place in the policy, from 0."""

    uri: ServerUri
    rank: int
    credentials: Credentials | None = field(default=None, repr=False)
    tls: TlsOptions | None = None

    @property
    def name(self) -> str:
        """How reports and traces call it."""
        return str(self.uri)

    @property
    def relays(self) -> bool:
        """Whether it is a TURN server."""
        return self.uri.scheme.relays

    def endpoints(self) -> tuple[ServerEndpoint, ...] | None:
        """Where it is; None if its name must be resolved first."""
        if self.uri.address.is_name:
            return None
        return endpoints_at(self.uri, (self.uri.address,))

    def tls_to(self, domain: str | None) -> TlsOptions | None:
        """How a server's certificate is judged that this one sent us to (RFC 8489 s10, ALTERNATE-DOMAIN)."""
        if self.tls is None or domain is None:
            return self.tls
        return TlsOptions(domain, self.tls.verify, self.tls.ca_file)


def endpoints_at(uri: ServerUri, addresses: tuple[TransportAddress, ...]) -> tuple[ServerEndpoint, ...]:
    """The transports that a URI leaves open, best first, at each address (RFC 7064, RFC 7065)."""
    return tuple(ServerEndpoint(transport, address) for address in addresses for transport in leg_transports(uri))


def leg_transports(uri: ServerUri) -> tuple[LegTransport, ...]:
    """What may carry the messages to a server, the best first."""
    if uri.scheme.secure:
        return (LegTransport.DTLS if uri.transport is Transport.UDP else LegTransport.TLS,)
    if uri.transport is None:
        return (LegTransport.UDP, LegTransport.TCP)
    return (LegTransport(uri.transport.value),)


def servers_of(policy: Policy, wall_clock: float) -> tuple[Server, ...]:
    """The servers of a policy; ``wall_clock``, in seconds since 1970, dates short-lived credentials."""
    return tuple(
        Server(entry.url, rank, _credentials_of(entry, wall_clock), _tls_of(entry))
        for rank, entry in enumerate(policy.servers)
    )


def _credentials_of(entry: ServerPolicy, wall_clock: float) -> Credentials | None:
    username = entry.username.get_secret_value() if entry.username is not None else ""
    if entry.secret is not None:
        return short_lived_credentials(
            entry.secret.get_secret_value(), username, wall_clock, lifetime=entry.credential_lifetime
        )
    if entry.password is None:
        return None
    return Credentials(username, entry.password.get_secret_value())


def _tls_of(entry: ServerPolicy) -> TlsOptions | None:
    if entry.url.scheme not in (Scheme.STUNS, Scheme.TURNS):
        return None
    return TlsOptions(entry.tls.server_name or entry.url.address.host, entry.tls.verify, entry.tls.ca_file)
