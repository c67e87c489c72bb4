"""What a client does with its allocation: Refresh, CreatePermission, ChannelBind, and data both ways (RFC 8656)."""

from __future__ import annotations

import ipaddress

from ice_tcp.server.core.actions import Address, Client, RelayTransport, SendPeer
from ice_tcp.server.core.allocate import desired_lifetime
from ice_tcp.server.core.allocations import Allocation, Allocations, Relay
from ice_tcp.server.core.context import Context, family_of
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.server.core.trace import DropReason, MessageDropped
from ice_tcp.server.peers import LOOPBACK
from ice_tcp.stun import (
    AttributeType,
    ErrorNumber,
    Message,
    Method,
    data,
    lifetime,
    xor_peer_address,
)

FIRST_CHANNEL = 0x4000
CHANNEL_HEADER_BYTES = 4


class Peers:
    """Which peers clients may reach: the policy's, and on the server's own addresses only what it relays."""

    def __init__(self, context: Context, allocations: Allocations) -> None:
        options = context.options
        listening = [listener.address for listener in context.listeners]
        hosts = [host for host, _ in listening] + [host for host in map(options.relay_host, (4, 6)) if host]
        self._context = context
        self._allocations = allocations
        self._listening = frozenset(
            address for host, port in listening for address in ((host, port), (options.external_hosts.get(host), port))
        )
        self._own = frozenset(host for host in hosts if not _is_loopback(host))

    def permits_host(self, host: str) -> bool:
        """Whether a permission may be had. Our own addresses are fine as far as others relay there."""
        return host in self._own or self._context.options.peers.permits(host)

    def permits(self, peer: Address) -> bool:
        """Whether data may go to the peer."""
        if peer in self._listening:  # RFC 8656 s21.1.7: a loop
            return False
        if peer[0] in self._own:
            return self._allocations.is_relayed(peer)
        return self._context.options.peers.permits(peer[0])


def _is_loopback(host: str) -> bool:
    return any(ipaddress.ip_address(host) in network for network in LOOPBACK)


class Relaying:
    """Answers the requests about an allocation, and carries data."""

    def __init__(self, context: Context, allocations: Allocations, peers: Peers) -> None:
        self._context = context
        self._allocations = allocations
        self._peers = peers

    def refresh(self, request: Request, allocation: Allocation) -> None:
        """RFC 8656 s8.2."""
        wished, family = request.message.lifetime, request.message.requested_address_family
        if family is not None and family not in allocation.relays:
            raise Refusal(ErrorNumber.PEER_ADDRESS_FAMILY_MISMATCH, f"no IPv{family} relay")
        relays = [relay for relay in allocation.relays.values() if family in (None, relay.family)]
        if wished == 0:
            for relay in relays:
                self._allocations.close_relay(relay, "refreshed with lifetime 0")
            self._context.succeed(request, [lifetime(0)])
            return
        desired = desired_lifetime(self._context, wished)
        for relay in relays:
            assert relay.deadline is not None
            relay.deadline.move(self._context.now + desired)
        self._context.succeed(request, [lifetime(round(desired))])

    def create_permission(self, request: Request, allocation: Allocation) -> None:
        """RFC 8656 s10.2: all of them or none."""
        peers = request.message.xor_addresses(AttributeType.XOR_PEER_ADDRESS)
        if not peers:
            raise Refusal(ErrorNumber.BAD_REQUEST, "no XOR-PEER-ADDRESS")
        wanted: dict[str, Relay] = {host: self._relay_for(allocation, (host, port)) for host, port in peers}
        for host in wanted:
            if not self._peers.permits_host(host):
                raise Refusal(ErrorNumber.FORBIDDEN, host)
        for relay in allocation.relays.values():
            self._check_room(relay, {host for host, its in wanted.items() if its is relay})
        for host, relay in wanted.items():
            self._allocations.permit(relay, host)
        self._context.succeed(request)

    def channel_bind(self, request: Request, allocation: Allocation) -> None:
        """RFC 8656 s12.2."""
        number, peer = request.message.channel_number, request.message.xor_peer_address
        if number is None or peer is None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "no CHANNEL-NUMBER or no XOR-PEER-ADDRESS")
        if not FIRST_CHANNEL <= number <= self._context.options.last_channel:
            raise Refusal(ErrorNumber.BAD_REQUEST, f"channel 0x{number:04x}")
        if allocation.transport is RelayTransport.TCP:
            raise Refusal(ErrorNumber.BAD_REQUEST, "TCP allocations have connections, not channels (RFC 6062 s4.5)")
        relay = self._relay_for(allocation, peer)
        by_number, by_peer = allocation.channels.get(number), relay.channels.get(peer)
        if by_number is not by_peer:
            raise Refusal(ErrorNumber.BAD_REQUEST, "the channel or the peer is bound otherwise")
        if not self._peers.permits(peer):
            raise Refusal(ErrorNumber.FORBIDDEN, f"{peer}")
        self._check_room(relay, {peer[0]})
        if by_number is None and len(allocation.channels) >= self._context.options.limits.channels:
            raise Refusal(ErrorNumber.INSUFFICIENT_CAPACITY, "too many channels")
        self._allocations.bind(relay, number, peer)
        self._context.succeed(request)

    def _relay_for(self, allocation: Allocation, peer: Address) -> Relay:
        relay = allocation.relays.get(family_of(peer))
        if relay is None:
            raise Refusal(ErrorNumber.PEER_ADDRESS_FAMILY_MISMATCH, f"no relay of the family of {peer[0]}")
        return relay

    def _check_room(self, relay: Relay, hosts: set[str]) -> None:
        if len(relay.permissions.keys() | hosts) > self._context.options.limits.permissions:
            raise Refusal(ErrorNumber.INSUFFICIENT_CAPACITY, "too many permissions")

    # From the client

    def send(self, client: Client, message: Message) -> None:
        """A Send indication (RFC 8656 s11.2). Raises DecodeError."""
        peer, payload = message.xor_peer_address, message.data
        allocation = self._allocations.get(client)
        if peer is None or payload is None:
            self._drop(client, DropReason.MALFORMED, "Send without peer or data")
        elif allocation is None or allocation.transport is RelayTransport.TCP:
            self._drop(client, DropReason.NO_ALLOCATION, "Send")
        elif message.dont_fragment and not self._context.can_forbid_fragments:
            self._drop(client, DropReason.MALFORMED, "DONT-FRAGMENT is not known here")
        else:
            relay = allocation.relays.get(family_of(peer))
            if relay is None or peer[0] not in relay.permissions:
                self._drop(client, DropReason.NO_PERMISSION, peer[0])
            elif not self._peers.permits(peer):
                self._drop(client, DropReason.FORBIDDEN_PEER, f"{peer}")
            else:
                self._context.actions.append(SendPeer(relay.id, peer, payload, message.dont_fragment))

    def channel_data(self, client: Client, message: bytes) -> None:
        """A ChannelData message (RFC 8656 s12.6); those of routes do not come here."""
        allocation = self._allocations.get(client)
        if len(message) < CHANNEL_HEADER_BYTES:
            self._drop(client, DropReason.MALFORMED, "ChannelData without header")
            return
        number = message[0] << 8 | message[1]
        end = CHANNEL_HEADER_BYTES + (message[2] << 8 | message[3])
        channel = allocation.channels.get(number) if allocation else None
        if end > len(message):
            self._drop(client, DropReason.MALFORMED, "ChannelData cut short")
        elif channel is None:
            self._drop(client, DropReason.NO_CHANNEL, f"0x{number:04x}")
        elif not channel.routed:
            self._drop(client, DropReason.NO_PERMISSION, channel.peer[0])
        else:
            payload = message[CHANNEL_HEADER_BYTES:end]
            self._context.actions.append(SendPeer(channel.relay.id, channel.peer, payload))

    # From the peer

    def peer_sent(self, relay: Relay, peer: Address, payload: bytes) -> None:
        """A datagram came to a relay (RFC 8656 s11.3); those of routes do not come here."""
        if relay.allocation is None:
            return  # a reservation
        client = relay.allocation.client
        channel = relay.channels.get(peer)
        if peer[0] not in relay.permissions:
            self._drop(client, DropReason.NO_PERMISSION, f"from {peer}")
        elif channel is not None:
            header = channel.number.to_bytes(2, "big") + len(payload).to_bytes(2, "big")
            self._context.send(client, header + payload, relayed=True)
        else:
            transaction_id = self._context.transaction_id()
            attributes = [xor_peer_address(*peer, transaction_id), data(payload)]
            self._context.indicate(client, Method.DATA, attributes, transaction_id)

    def _drop(self, client: Client, reason: DropReason, detail: str) -> None:
        self._context.trace(MessageDropped(client, reason, detail))
