"""Relaying datagrams: Send and Data indications, and channels (RFC 8656 s11, s12)."""

from __future__ import annotations

from typing import Protocol

from candidates.candidate import Transport, TransportAddress
from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.exchanges import Note, ServerDropReason
from ice_tcp.core.outcomes import Advice, ServerFailure
from ice_tcp.core.turn.allocate import Wishes
from ice_tcp.core.turn.allocation import Allocation, AllocationListener, State
from ice_tcp.core.turn.channels import MOST_BYTES, Channels, read_channel_data
from ice_tcp.core.turn.credentials import Credentials
from ice_tcp.core.turn.link import ServerPath
from ice_tcp.stun import DecodeError, Icmp, Message, MessageClass, Method


class UdpAllocationListener(AllocationListener, Protocol):
    """Who hears of an allocation that relays datagrams."""

    def data_received(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """A datagram of ``peer`` came, perhaps an empty one."""
        ...

    def channel_bound(self, peer: TransportAddress, number: int, now: float) -> None:
        """Data to ``peer`` goes by channel ``number`` from now on."""
        ...

    def channel_lost(self, peer: TransportAddress, now: float) -> None:
        """It does so no more."""
        ...

    def icmp_received(self, peer: TransportAddress, icmp: Icmp, now: float) -> None:
        """A datagram to ``peer`` was lost on the way (RFC 8656 s11.6); the port is 0 if the server does not know it."""
        ...


class UdpAllocation(Allocation):
    """An allocation whose relayed addresses send and receive datagrams, over any transport to the server."""

    def __init__(
        self,
        context: Context,
        path: ServerPath,
        listener: UdpAllocationListener,
        *,
        credentials: Credentials | None,
        wishes: Wishes | None = None,
        server: str = "",
        note: Note | None = None,
    ) -> None:
        wishes = wishes or Wishes()
        if wishes.transport is not Transport.UDP:
            raise ValueError("a TcpAllocation relays TCP")
        super().__init__(context, path, listener, credentials=credentials, wishes=wishes, server=server, note=note)
        self._udp_listener = listener
        self._channels = Channels(
            self._link,
            self._requests,
            bound=listener.channel_bound,
            lost=listener.channel_lost,
            extended=self._permissions.extended,
            failed=self._lives_after,
            out_of_sync=self._out_of_sync,
        )

    def send_data(self, peer: TransportAddress, data: bytes, now: float) -> bool:
        """Relay application data to ``peer``, by its channel, which the first data asks for.

        False, with nothing sent, if ``peer`` has no permission. Raises ValueError for more than 65535 bytes.
        """
        return self._send(peer, data, now, bind=True)

    def send_stun(self, peer: TransportAddress, message: bytes, now: float) -> bool:
        """As `send_data`, for checks: they alone are not worth a channel."""
        return self._send(peer, message, now, bind=False)

    def bind_channel(self, peer: TransportAddress, now: float) -> None:
        """Have a channel to ``peer``, as `send_data` does, for an owner who packs data itself."""
        if self._state is State.ALLOCATED:
            self._channels.bind(peer, now)

    def _send(self, peer: TransportAddress, data: bytes, now: float, *, bind: bool) -> bool:
        if len(data) > MOST_BYTES:
            raise ValueError(f"a datagram of {len(data)} bytes; UDP carries {MOST_BYTES}")
        if self._state is not State.ALLOCATED or not self._permissions.is_active(peer.host, now):
            return False
        packed = self._channels.packed(peer, data)
        if packed is None:
            if bind:
                self._channels.bind(peer, now)
            packed = self._send_indication(peer, data)
        self._link.send(packed, now)
        return True

    def _send_indication(self, peer: TransportAddress, data: bytes) -> bytes:
        id_ = self._link.context.transaction_id()
        attributes = [stun.xor_peer_address(peer.host, peer.port, id_), stun.data(data)]
        if self._wishes.dont_fragment:
            attributes.append(stun.dont_fragment())
        return stun.encode(MessageClass.INDICATION, Method.SEND, id_, attributes, fingerprint=False)

    def _channel_data_received(self, data: bytes, now: float) -> None:
        number, payload = read_channel_data(data)
        peer = self._channels.peer_of(number)
        if peer is None:
            self._link.drop(ServerDropReason.UNKNOWN_CHANNEL, f"0x{number:04x}", now)
        elif not self._permissions.is_active(peer.host, now):
            self._link.drop(ServerDropReason.NO_PERMISSION, str(peer), now)
        else:
            self._udp_listener.data_received(peer, payload, now)

    def _indication_received(self, message: Message, now: float) -> None:
        if message.method != Method.DATA:
            self._link.drop(ServerDropReason.UNEXPECTED_INDICATION, repr(message), now)
            return
        peer = self._permitted_peer(message, now)
        if peer is None:
            return
        icmp, payload = message.icmp, message.data
        if icmp is not None:
            self._udp_listener.icmp_received(peer, icmp, now)
        elif payload is not None:
            self._udp_listener.data_received(peer, payload, now)
        else:
            raise DecodeError("a Data indication with neither DATA nor ICMP (RFC 8656 s11.4)")

    def _release(self, host: str, now: float) -> None:
        super()._release(host, now)
        self._channels.release(host, now)

    def _stop(self) -> None:
        super()._stop()
        self._channels.clear()

    def _out_of_sync(self, failure: ServerFailure, now: float) -> None:
        """RFC 8656 s12.3: delete the allocation, and start afresh."""
        self._delete(now)
        self._end(ServerFailure(failure.cause, f"a bound channel: {failure.text}", Advice.RECONNECT), now)
