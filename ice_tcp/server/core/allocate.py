"""Allocate: from the request over the sockets that it needs to the response (RFC 8656 s7.2, RFC 6062 s5.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ice_tcp.server.core.accounts import Identity
from ice_tcp.server.core.actions import Address, Client, Leg, OpenRelay, RelayTransport
from ice_tcp.server.core.allocations import Allocation, Allocations, Relay
from ice_tcp.server.core.context import Context, family_of, has
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.server.core.trace import AllocationCreated, DropReason, MessageDropped
from ice_tcp.stun import (
    Attribute,
    AttributeType,
    ErrorNumber,
    address_error_code,
    alternate_domain,
    alternate_server,
    lifetime,
    reservation_token,
    unknown_attributes,
    xor_mapped_address,
    xor_relayed_address,
)

RESERVATION_LIFETIME = 60.0
"""RFC 8656 s7.2: at least 30 seconds."""

_TRIES = 16
"""Ports that are tried before a family has no capacity: other programs use some, too."""
_TRANSPORTS = {17: RelayTransport.UDP, 6: RelayTransport.TCP}


@dataclass(slots=True)
class _Attempt:
    """An Allocate request whose relays are being opened, one after the other."""

    request: Request
    identity: Identity
    transport: RelayTransport
    lifetime: float
    families: list[int]
    even: bool
    reserve: bool
    is_dual: bool
    opened: list[Relay] = field(default_factory=list)
    reserved: Relay | None = None
    opening: Relay | None = None
    tries: int = 0
    failed: dict[int, ErrorNumber] = field(default_factory=dict)


class Allocate:
    """Answers Allocate requests."""

    def __init__(self, context: Context, allocations: Allocations) -> None:
        self._context = context
        self._allocations = allocations
        self._attempts: dict[Client, _Attempt] = {}
        self._opening: dict[int, _Attempt] = {}
        self._reservations: dict[bytes, Relay] = {}
        self._redirected = 0

    def answer(self, request: Request) -> None:
        """Begin to allocate; the response comes when the relays are open. Raises Refusal or DecodeError."""
        context, message, client = self._context, request.message, request.client
        identity = request.identity
        assert identity is not None
        if client in self._attempts:
            context.trace(MessageDropped(client, DropReason.PENDING, "Allocate retransmitted"))
            return
        existing = self._allocations.get(client)
        if existing is not None:
            if existing.created_by != message.transaction_id:
                raise Refusal(ErrorNumber.ALLOCATION_MISMATCH, "there is an allocation already")
            self._succeed(request, existing)
            return
        transport = self._transport(request)
        families = self._families(request)
        wants_even, reserve = message.even_port is not None, bool(message.even_port)
        desired = desired_lifetime(context, message.lifetime)
        self._redirect(request)
        attempt = _Attempt(
            request, identity, transport, desired, families, wants_even, reserve, is_dual=len(families) > 1
        )
        if has(request, AttributeType.RESERVATION_TOKEN):
            self._claim(attempt)
            return
        count = len(families) + reserve
        self._check_quota(identity.user, count)
        if self._allocations.relay_count + count > context.options.limits.allocations:
            raise Refusal(ErrorNumber.INSUFFICIENT_CAPACITY, "the server is full")
        self._attempts[client] = attempt
        self._open_next(attempt)

    def abandon(self, client: Client) -> None:
        """The client is gone; what is opened for it is closed as soon as it is open."""
        attempt = self._attempts.pop(client, None)
        if attempt is not None:
            attempt.families.clear()
            for relay in attempt.opened:
                self._allocations.close_relay(relay, "client gone")
            attempt.opened.clear()

    # What the request asks for, in the order of RFC 8656 s7.2

    def _transport(self, request: Request) -> RelayTransport:
        options, message = self._context.options, request.message
        protocol = message.requested_transport
        if protocol is None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "no REQUESTED-TRANSPORT")
        transport = _TRANSPORTS.get(protocol)
        if transport is None:
            raise Refusal(ErrorNumber.UNSUPPORTED_TRANSPORT_PROTOCOL, f"protocol {protocol}")
        if transport is RelayTransport.UDP:
            if not options.udp_relay:  # RFC 6062 s5.1
                raise Refusal(ErrorNumber.FORBIDDEN, "no UDP relays here")
            if message.dont_fragment and not self._context.can_forbid_fragments:
                unsupported = unknown_attributes([AttributeType.DONT_FRAGMENT])
                raise Refusal(ErrorNumber.UNKNOWN_ATTRIBUTE, attributes=[unsupported])
            return transport
        if not options.tcp_relay:
            raise Refusal(ErrorNumber.UNSUPPORTED_TRANSPORT_PROTOCOL, "no TCP relays here")
        if request.leg is Leg.UDP:
            raise Refusal(ErrorNumber.BAD_REQUEST, "a TCP allocation needs a connection (RFC 6062 s5.1)")
        if any(
            has(request, type_)
            for type_ in (AttributeType.DONT_FRAGMENT, AttributeType.EVEN_PORT, AttributeType.RESERVATION_TOKEN)
        ):
            raise Refusal(ErrorNumber.BAD_REQUEST, "what only UDP relays can do (RFC 6062 s5.1)")
        return transport

    def _families(self, request: Request) -> list[int]:
        message = request.message
        requested, additional = message.requested_address_family, message.additional_address_family
        token = message.reservation_token
        if token is not None and (
            requested is not None or additional is not None or has(request, AttributeType.EVEN_PORT)
        ):
            raise Refusal(ErrorNumber.BAD_REQUEST, "RESERVATION-TOKEN with what it decides already")
        if requested is not None and additional is not None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "two address families in two ways")
        if additional is not None:
            if message.even_port:
                raise Refusal(ErrorNumber.BAD_REQUEST, "a reservation for a dual allocation")
            if additional != 6:
                raise Refusal(ErrorNumber.BAD_REQUEST, "the additional family is IPv4")
            return [4, 6]
        family = requested or 4
        if token is None and self._context.options.relay_host(family) is None:
            raise Refusal(ErrorNumber.ADDRESS_FAMILY_NOT_SUPPORTED, f"no IPv{family} relays here")
        return [family]

    def _redirect(self, request: Request) -> None:
        """Send the client to another server, if there is one for it (RFC 8489 s10)."""
        options = self._context.options
        if not options.alternate_servers or len(self._allocations) < options.redirect_from:
            return
        turn = self._redirected % len(options.alternate_servers)
        servers = options.alternate_servers[turn:] + options.alternate_servers[:turn]
        family = family_of(request.client.address)
        same = next((server for server in servers if family_of(server) == family), None)
        if same is None:
            return
        self._redirected += 1
        other = next((server for server in servers if family_of(server) != family), None)
        attributes = [alternate_server(*server) for server in (same, other) if server is not None]
        if options.alternate_domain is not None and request.leg is Leg.TLS:
            attributes.append(alternate_domain(options.alternate_domain))
        raise Refusal(ErrorNumber.TRY_ALTERNATE, attributes=attributes)

    def _check_quota(self, user: str, count: int) -> None:
        used = self._allocations.used_by(user)
        if used + count > self._context.options.limits.allocations_per_user:
            raise Refusal(ErrorNumber.ALLOCATION_QUOTA_REACHED, f"the user has {used} relays")

    # Reservations

    def _claim(self, attempt: _Attempt) -> None:
        """Allocate what was reserved (RFC 8656 s7.2); whoever knows the token may."""
        token, user = attempt.request.message.reservation_token or b"", attempt.identity.user
        relay = self._reservations.get(token)
        if relay is None:
            raise Refusal(ErrorNumber.INSUFFICIENT_CAPACITY, "no such reservation")
        if relay.user != user:
            self._check_quota(user, 1)
            self._allocations.change_user(relay, user)
        del self._reservations[token]
        attempt.opened.append(relay)
        self._finish(attempt)

    def _reserve(self, relay: Relay) -> bytes:
        token = self._context.rng.randbytes(8)
        self._reservations[token] = relay

        def release(_: float) -> None:
            del self._reservations[token]
            self._allocations.close_relay(relay, "reservation expired")

        relay.deadline = self._context.deadlines.set(self._context.now + RESERVATION_LIFETIME, release)
        return token

    # Relays, one after the other

    def _open_next(self, attempt: _Attempt) -> None:
        while attempt.families:
            family = attempt.families[0]
            host = self._context.options.relay_host(family)
            if host is None:
                self._give_up(attempt, ErrorNumber.ADDRESS_FAMILY_NOT_SUPPORTED)
                continue
            address = self._choose(attempt, host)
            if address is None:
                self._give_up(attempt, ErrorNumber.INSUFFICIENT_CAPACITY)
                continue
            self._open(attempt, address)
            return
        self._finish(attempt)

    def _choose(self, attempt: _Attempt, host: str) -> Address | None:
        """A random port that is free as far as we know (RFC 6056), with a free one after it for a reservation."""
        first, last = self._context.options.relay_ports
        step = 1
        if attempt.even:
            step = 2
            first += first % 2
        last -= attempt.reserve
        count = (last - first) // step + 1
        while count > 0 and attempt.tries < _TRIES:
            attempt.tries += 1
            port = first + step * self._context.rng.randrange(count)
            pair = (port, port + 1) if attempt.reserve else (port,)
            if not any(self._allocations.is_taken(attempt.transport, (host, number)) for number in pair):
                return host, port
        return None

    def _open(self, attempt: _Attempt, address: Address) -> None:
        relay = self._allocations.create_relay(attempt.transport, address, attempt.identity.user)
        attempt.opening = relay
        self._opening[relay.id] = attempt
        self._context.actions.append(OpenRelay(relay.id, attempt.transport, address))

    def relay_opened(self, id_: int) -> None:
        """The shell opened what was asked for."""
        attempt, relay = self._opened(id_)
        if self._attempts.get(attempt.request.client) is not attempt:
            self._allocations.close_relay(relay, "client gone")
            return
        attempt.opened.append(relay)
        if not attempt.reserve:
            self._next_family(attempt)
        elif len(attempt.opened) == 1:
            self._open(attempt, (relay.address[0], relay.address[1] + 1))
        else:
            attempt.reserved = attempt.opened.pop()
            self._next_family(attempt)

    def relay_failed(self, id_: int) -> None:
        """It could not; another port may do."""
        attempt, relay = self._opened(id_)
        self._allocations.forget_relay(relay)
        if self._attempts.get(attempt.request.client) is not attempt:
            return
        if attempt.reserve:
            for lower in attempt.opened:
                self._allocations.close_relay(lower, "the port above is taken")
            attempt.opened.clear()
        self._open_next(attempt)

    def _opened(self, id_: int) -> tuple[_Attempt, Relay]:
        attempt = self._opening.pop(id_)
        relay, attempt.opening = attempt.opening, None
        assert relay is not None
        return attempt, relay

    def _next_family(self, attempt: _Attempt) -> None:
        del attempt.families[0]
        attempt.tries = 0
        self._open_next(attempt)

    def _give_up(self, attempt: _Attempt, code: ErrorNumber) -> None:
        attempt.failed[attempt.families.pop(0)] = code
        attempt.tries = 0

    # The response

    def _finish(self, attempt: _Attempt) -> None:
        context, request = self._context, attempt.request
        self._attempts.pop(request.client, None)
        if not attempt.opened:
            code = min(attempt.failed.values()) if not attempt.is_dual else ErrorNumber.INSUFFICIENT_CAPACITY
            context.refuse(request, Refusal(code, "no relay could be opened"))
            return
        transaction_id = request.message.transaction_id
        allocation = Allocation(request.client, attempt.identity, attempt.transport, transaction_id)
        self._allocations.add(allocation)
        for relay in attempt.opened:
            self._allocations.attach(allocation, relay, attempt.lifetime)
        if attempt.reserved is not None:
            allocation.token = self._reserve(attempt.reserved)
        # What could not be had of a dual allocation
        allocation.missing = tuple(attempt.failed.items())
        addresses = tuple(self._told(relay) for relay in attempt.opened)
        context.trace(AllocationCreated(request.client, attempt.identity.username, attempt.transport, addresses))
        self._succeed(request, allocation)

    def _succeed(self, request: Request, allocation: Allocation) -> None:
        transaction_id = request.message.transaction_id
        relays = list(allocation.relays.values())
        attributes: list[Attribute] = [xor_relayed_address(*self._told(relay), transaction_id) for relay in relays]
        attributes.append(lifetime(min(relay.lifetime(self._context.now) for relay in relays)))
        if allocation.token is not None:
            attributes.append(reservation_token(allocation.token))
        attributes.append(xor_mapped_address(*request.client.address, transaction_id))
        attributes += [address_error_code(family, code) for family, code in allocation.missing]
        self._context.succeed(request, attributes)

    def _told(self, relay: Relay) -> Address:
        """The relayed address as clients and peers know it."""
        host, port = relay.address
        return self._context.options.external_hosts.get(host, host), port


def desired_lifetime(context: Context, wished: int | None) -> float:
    """The lifetime that a client gets for its wish (RFC 8656 s7.2, s8.2)."""
    options = context.options
    return max(options.default_lifetime, min(wished or 0, options.max_lifetime))
