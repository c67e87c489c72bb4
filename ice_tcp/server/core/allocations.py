"""What the server keeps about its clients: allocations, their relays, permissions and channels (RFC 8656 s3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ice_tcp.server.core.accounts import Identity
from ice_tcp.server.core.actions import Address, Client, CloseRelay, CloseRoute, OpenRoute, RelayTransport
from ice_tcp.server.core.context import Context, family_of
from ice_tcp.server.core.deadlines import Deadline
from ice_tcp.server.core.trace import AllocationEnded
from ice_tcp.stun import ErrorNumber

PERMISSION_LIFETIME = 300.0
"""RFC 8656 s9: MUST."""
CHANNEL_LIFETIME = 600.0
"""RFC 8656 s12."""


class Channel:
    """A channel bound to a peer. Its route is open while there is a permission for the peer, too."""

    __slots__ = ("deadline", "number", "peer", "relay", "routed")

    def __init__(self, relay: Relay, number: int, peer: Address, deadline: Deadline) -> None:
        self.relay = relay
        self.number = number
        self.peer = peer
        self.deadline = deadline
        self.routed = False


class Relay:
    """A relayed transport address. It belongs to an allocation, or waits for one as a reservation."""

    __slots__ = ("address", "allocation", "channels", "deadline", "family", "id", "permissions", "transport", "user")

    def __init__(self, id_: int, transport: RelayTransport, address: Address, user: str) -> None:
        self.id = id_
        self.transport = transport
        self.address = address
        self.family = family_of(address)
        self.user = user
        self.allocation: Allocation | None = None
        self.deadline: Deadline | None = None
        self.permissions: dict[str, Deadline] = {}
        self.channels: dict[Address, Channel] = {}

    def lifetime(self, now: float) -> int:
        """Whole seconds until it expires."""
        return max(0, round(self.deadline.at - now)) if self.deadline else 0


class Allocation:
    """What a client has on its 5-tuple: one relayed address, or one of each family (RFC 8656 s7.2)."""

    __slots__ = ("channels", "client", "created_by", "identity", "missing", "relays", "token", "transport")

    def __init__(self, client: Client, identity: Identity, transport: RelayTransport, created_by: bytes) -> None:
        self.client = client
        self.identity = identity
        self.transport = transport
        self.created_by = created_by
        """The transaction that made it: its retransmission gets the same answer."""
        self.token: bytes | None = None
        """Of the port reserved with it."""
        self.missing: tuple[tuple[int, ErrorNumber], ...] = ()
        """Families of a dual allocation that could not be had, and why."""
        self.relays: dict[int, Relay] = {}
        self.channels: dict[int, Channel] = {}


class Allocations:
    """All of a server's, by client and by relay. Nothing else creates or ends any of this."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._of_client: dict[Client, Allocation] = {}
        self._relays: dict[int, Relay] = {}
        self._used: Counter[str] = Counter()
        self._addresses: set[tuple[RelayTransport, Address]] = set()
        self.on_relay_closed: Callable[[Relay], None] = _ignore

    def get(self, client: Client) -> Allocation | None:
        return self._of_client.get(client)

    def relay(self, id_: int) -> Relay | None:
        """A relay by its number, unless it is closed."""
        return self._relays.get(id_)

    def __len__(self) -> int:
        return len(self._of_client)

    @property
    def relay_count(self) -> int:
        """Relays, reservations and those that are being opened included."""
        return len(self._relays)

    def used_by(self, user: str) -> int:
        """How much of the user's quota is used."""
        return self._used[user]

    def is_relayed(self, address: Address) -> bool:
        """Whether a peer at this address is a relay of ours."""
        return any((transport, address) in self._addresses for transport in RelayTransport)

    def is_taken(self, transport: RelayTransport, address: Address) -> bool:
        return (transport, address) in self._addresses

    # Relays

    def create_relay(self, transport: RelayTransport, address: Address, user: str) -> Relay:
        """Count a relay that is about to be opened."""
        relay = Relay(self._context.issue(), transport, address, user)
        self._relays[relay.id] = relay
        self._addresses.add((transport, address))
        self._pay(user, 1)
        return relay

    def change_user(self, relay: Relay, user: str) -> None:
        """Someone else pays for it from now on."""
        self._pay(relay.user, -1)
        self._pay(user, 1)
        relay.user = user

    def _pay(self, user: str, count: int) -> None:
        self._used[user] += count
        if not self._used[user]:
            del self._used[user]

    def forget_relay(self, relay: Relay) -> None:
        """It is closed, or could not be opened."""
        del self._relays[relay.id]
        self._addresses.discard((relay.transport, relay.address))
        self._pay(relay.user, -1)

    def close_relay(self, relay: Relay, why: str) -> None:
        """Close it with its permissions and channels; the allocation ends with its last relay."""
        context = self._context
        for channel in list(relay.channels.values()):
            self._unbind(channel)
        for permission in relay.permissions.values():
            permission.cancel()
        relay.permissions.clear()
        if relay.deadline is not None:
            relay.deadline.cancel()
        self.on_relay_closed(relay)
        context.actions.append(CloseRelay(relay.id))
        self.forget_relay(relay)
        allocation, relay.allocation = relay.allocation, None
        if allocation is not None:
            context.trace(AllocationEnded(allocation.client, relay.address, why))
            del allocation.relays[relay.family]
            if not allocation.relays:
                del self._of_client[allocation.client]

    # Allocations

    def add(self, allocation: Allocation) -> None:
        self._of_client[allocation.client] = allocation

    def attach(self, allocation: Allocation, relay: Relay, lifetime: float) -> None:
        """The relay belongs to the allocation from now on."""
        relay.allocation = allocation
        allocation.relays[relay.family] = relay
        if relay.deadline is not None:
            relay.deadline.cancel()
        at = self._context.now + lifetime
        relay.deadline = self._context.deadlines.set(at, lambda _: self.close_relay(relay, "expired"))

    def end_of_strangers(self, knows: Callable[[str], bool]) -> None:
        """End the allocations of users who are not known any more."""
        for client, allocation in list(self._of_client.items()):
            if not knows(allocation.identity.username):
                self.end(client, "user removed")

    def end(self, client: Client, why: str) -> None:
        """End the allocation of a 5-tuple, if there is one."""
        allocation = self._of_client.get(client)
        if allocation is not None:
            for relay in list(allocation.relays.values()):
                self.close_relay(relay, why)

    # Permissions

    def permit(self, relay: Relay, host: str) -> None:
        """Install or refresh a permission (RFC 8656 s9)."""
        at = self._context.now + PERMISSION_LIFETIME
        permission = relay.permissions.get(host)
        if permission is not None:
            permission.move(at)
            return
        relay.permissions[host] = self._context.deadlines.set(at, lambda _: self._revoke(relay, host))
        self._follow(relay, host)

    def revoke(self, permits_host: Callable[[str], bool]) -> None:
        """End the permissions for hosts, and so the routes to them, that may not be reached any more."""
        for relay in self._relays.values():
            for host in [host for host in relay.permissions if not permits_host(host)]:
                relay.permissions[host].cancel()
                self._revoke(relay, host)

    def _revoke(self, relay: Relay, host: str) -> None:
        del relay.permissions[host]
        self._follow(relay, host)

    def _follow(self, relay: Relay, host: str) -> None:
        for channel in relay.channels.values():
            if channel.peer[0] == host:
                self._route(channel)

    # Channels

    def bind(self, relay: Relay, number: int, peer: Address) -> None:
        """Bind or refresh a channel, and install or refresh the permission (RFC 8656 s12.2)."""
        allocation = relay.allocation
        assert allocation is not None
        self.permit(relay, peer[0])
        at = self._context.now + CHANNEL_LIFETIME
        bound = allocation.channels.get(number)
        if bound is not None:
            bound.deadline.move(at)
            return
        deadline = self._context.deadlines.set(at, lambda _: self._unbind(relay.channels[peer]))
        channel = allocation.channels[number] = relay.channels[peer] = Channel(relay, number, peer, deadline)
        self._route(channel)

    def _unbind(self, channel: Channel) -> None:
        relay = channel.relay
        assert relay.allocation is not None
        channel.deadline.cancel()
        del relay.allocation.channels[channel.number]
        del relay.channels[channel.peer]
        self._set_route(channel, False)

    def _route(self, channel: Channel) -> None:
        self._set_route(channel, channel.peer[0] in channel.relay.permissions)

    def _set_route(self, channel: Channel, open_: bool) -> None:
        relay = channel.relay
        assert relay.allocation is not None
        if channel.routed is not open_:
            channel.routed = open_
            kind = OpenRoute if open_ else CloseRoute
            self._context.actions.append(kind(relay.allocation.client, channel.number, relay.id, channel.peer))


def _ignore(_: Relay) -> None:
    pass
