"""A relay of datagrams, over any leg (RFC 8656)."""

from __future__ import annotations

from candidates.candidate import Transport, TransportAddress
from ice_tcp.core.commands import Deliver, RelayPath
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.legs import Leg
from ice_tcp.core.servers.relay import Relay
from ice_tcp.core.turn import UdpAllocation
from ice_tcp.stun import Icmp, is_stun


class UdpRelay(Relay):
    """Application data does not pass here: once a channel is bound, the shell packs and unpacks it by itself."""

    __slots__ = ()

    transport = Transport.UDP
    _allocation: UdpAllocation | None

    def path_to(self, peer: TransportAddress) -> RelayPath:
        """The path to a peer; after the end it leads nowhere."""
        assert self.leg_id is not None
        return RelayPath(self.leg_id, peer)

    def send(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """Relay a STUN message; without a permission it is lost, as on any network."""
        if self._allocation is not None:
            self._allocation.send_stun(peer, data, now)

    def use(self, peer: TransportAddress, now: float) -> None:
        """Data will go to ``peer``: have a channel for it."""
        if self._allocation is not None:
            self._allocation.bind_channel(peer, now)

    # UdpAllocationListener

    def data_received(self, peer: TransportAddress, data: bytes, now: float) -> None:
        base = next((each for each in self.bases if each.address and each.address.family == peer.family), None)
        if base is None or self._leg is None:
            return
        path = self.path_to(peer)
        if is_stun(data):
            self._owner.message_relayed(base, path, data, now)
        else:
            self._context.commands.append(Deliver(path, data))

    def channel_bound(self, peer: TransportAddress, number: int, now: float) -> None:  # noqa: ARG002 - the protocol
        if self._leg is not None:
            self._leg.bind_channel(peer, number)

    def channel_lost(self, peer: TransportAddress, now: float) -> None:  # noqa: ARG002 - the listener's protocol
        if self._leg is not None:
            self._leg.bind_channel(peer, None)

    def icmp_received(self, peer: TransportAddress, icmp: Icmp, now: float) -> None:
        """No reason to end a check early: ICMP is easily forged (RFC 8656 s11.5)."""

    # LegOwner

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        self.data_received(peer, data, now)

    # -- inside

    def _allocate(self, leg: Leg) -> UdpAllocation:
        return UdpAllocation(
            *(self._context, leg, self),
            credentials=self.server.credentials,
            wishes=self._wishes,
            server=self.server.name,
            note=self._context.note,
        )

    def _bases_of(self, relayed: tuple[TransportAddress, ...]) -> tuple[Base, ...]:
        bases = tuple(self._base(address, None) for address in relayed)
        for base in bases:
            base.relay = self
        return bases

    def _stopped(self, now: float) -> None:
        """Peers notice by consent."""
