"""Application data on the way to and from a TURN server, and what the server itself has to say. No I/O.

Data of a peer travels between us and the server as ChannelData once the channel is bound, before that in
indications (RFC 8656 s11, s12): outbound they are made here, inbound the core opens them, as any message of the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from ice_tcp.datapath.stream import STUN_QUEUE_BYTES, StreamFault
from ice_tcp.datapath.traffic import COOKIE, EarlyData, Received, Traffic, told_apart
from ice_tcp.framing import FramingError, MessageQueue, ServerStreamSplitter
from ice_tcp.stun import MessageClass, Method, encode, is_stun, xor_peer_address
from ice_tcp.stun import data as data_attribute

Address: TypeAlias = tuple[str, int]
"""Host and port."""

MAX_RELAYED_BYTES = 65436
"""The longest message to a peer: with it a Send indication is as long as a STUN message of ours gets, and fits a
UDP datagram, whatever the families of the addresses.

ChannelData could be a little longer; but a message must not stop fitting when a channel ends.
"""

_HEADER_BYTES = 4
_FIRST_CHANNEL_BYTE, _CHANNELS_END = 0x40, 0x50
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class LegMessage(NamedTuple):
    """A message for the core: STUN out of the channel of ``peer``, or if that is None, of the server itself."""

    peer: Address | None
    message: bytes


class FromLeg(NamedTuple):
    """What came in: messages for the core, data for the application, each in its order."""

    messages: list[LegMessage]
    data: list[bytes]


class RelayedPeer:
    """One peer behind a TURN server: what data to it looks like, and how much there was."""

    __slots__ = (
        "_channel",
        "_header",
        "_padding",
        "_reliable",
        "_size",
        "_transaction_id",
        "address",
        "admitted",
        "traffic",
    )

    def __init__(self, address: Address, transaction_id: Callable[[], bytes], *, reliable: bool) -> None:
        self.address = address
        self.admitted = False
        self.traffic = Traffic()
        """To count what is sent is up to the sender: `wrap` does not know whether it was."""
        self._transaction_id = transaction_id
        self._reliable = reliable
        self._channel: bytes | None = None
        self._size = -1  # of the last message that went as ChannelData, for which header and padding are
        self._header = self._padding = b""

    @property
    def channel(self) -> bytes | None:
        """The first two bytes of its ChannelData; None if no channel is bound."""
        return self._channel

    @channel.setter
    def channel(self, channel: bytes | None) -> None:
        self._channel = channel
        self._size = -1

    def wrap(self, data: bytes) -> bytes:
        """The message to the server that has it send ``data`` to the peer.

        Raises ValueError for more than MAX_RELAYED_BYTES.
        """
        size = len(data)
        if size != self._size:
            if size > MAX_RELAYED_BYTES:
                raise ValueError(f"a message of {size} bytes cannot be relayed; it has at most {MAX_RELAYED_BYTES}")
            if self._channel is None:
                return self._indication(data)
            self._size = size
            self._header = self._channel + size.to_bytes(2, "big")
            self._padding = _PADDING[size & 3] if self._reliable else b""  # RFC 8656 s12.5
        return self._header + data + self._padding

    def _indication(self, data: bytes) -> bytes:
        transaction_id = self._transaction_id()
        attributes = [xor_peer_address(*self.address, transaction_id), data_attribute(data)]
        return encode(MessageClass.INDICATION, Method.SEND, transaction_id, attributes, fingerprint=False)


class RelayedPeers:
    """The peers behind one leg, by address; ``transaction_id`` gives 12 random bytes.

    Data of peers that are not admitted waits in a buffer of ``early_limit`` bytes for all of them.
    """

    __slots__ = ("_early", "_peers", "_reliable", "_transaction_id", "channels")

    def __init__(self, *, early_limit: int, transaction_id: Callable[[], bytes], reliable: bool) -> None:
        self._early = EarlyData(early_limit)
        self._transaction_id = transaction_id
        self._reliable = reliable
        self._peers: dict[Address, RelayedPeer] = {}
        self.channels: dict[bytes, RelayedPeer] = {}
        """By the first two bytes of their ChannelData."""

    def bind(self, address: Address, number: int | None) -> None:
        """Data to and from ``address`` goes by this channel from now on; None: by none."""
        peer = self._peer(address)
        if peer.channel is not None:
            self.channels.pop(peer.channel, None)
        peer.channel = None
        if number is not None:
            peer.channel = number.to_bytes(2, "big")
            self.channels[peer.channel] = peer

    def admit(self, address: Address) -> list[bytes]:
        """An authenticated message came from the peer: return its data kept so far, deliver it from now on."""
        peer = self._peer(address)
        peer.admitted = True
        return self._early.release(address, peer.traffic)

    def admitted(self, address: Address) -> RelayedPeer | None:
        """The peer, if it is admitted: to `RelayedPeer.wrap` what is sent to it, and for its traffic."""
        peer = self._peers.get(address)
        return peer if peer is not None and peer.admitted else None

    def deliver(self, address: Address, data: bytes) -> list[bytes]:
        """Data came otherwise than by a channel: return what of it goes to the application now."""
        return self.receive(self._peer(address), [data]) if data else []

    def receive(self, peer: RelayedPeer, data: list[bytes]) -> list[bytes]:
        """Data came of ``peer``, nothing of it empty: return what of it goes to the application now."""
        if not peer.admitted:
            self._early.keep(data, peer.address)
            return []
        traffic = peer.traffic
        traffic.packets_received += len(data)
        traffic.bytes_received += sum(map(len, data))
        return data

    @property
    def discarded(self) -> int:
        """Datagrams dropped because too many waited for an admission."""
        return self._early.discarded

    def _peer(self, address: Address) -> RelayedPeer:
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = RelayedPeer(address, self._transaction_id, reliable=self._reliable)
        return peer


class DatagramLegPath:
    """What comes on a leg over UDP (or DTLS). Whatever is neither STUN nor whole ChannelData is dropped."""

    __slots__ = ("_channels", "peers")

    def __init__(self, *, early_limit: int, transaction_id: Callable[[], bytes]) -> None:
        self.peers = RelayedPeers(early_limit=early_limit, transaction_id=transaction_id, reliable=False)
        self._channels = self.peers.channels

    def receive(self, datagrams: list[bytes]) -> FromLeg:
        """Take datagrams in their order."""
        messages: list[LegMessage] = []
        data: list[bytes] = []
        rest = 0
        while rest < len(datagrams):
            first = datagrams[rest]
            peer = self._channels.get(first[:2])
            if peer is None:
                if first and _is_whole(first):
                    messages.append(LegMessage(None, first))
                rest += 1
                continue
            alike = _data_of_alike(datagrams, rest)
            rest += len(alike) or 1
            if alike and alike[0]:
                stun, others = told_apart(alike)
                messages += [LegMessage(peer.address, message) for message in stun]
                data += self.peers.receive(peer, others)
        return FromLeg(messages, data)

    def receive_one(self, datagram: bytes) -> bytes | None:
        """The short way of a single message: its data, if it is that of an admitted peer; else call `receive`."""
        peer = self._channels.get(datagram[:2])
        size = len(datagram) - _HEADER_BYTES
        if peer is None or size < 1 or not peer.admitted or (datagram[2] << 8 | datagram[3]) != size:
            return None
        data = datagram[_HEADER_BYTES:]
        if data[4:8] == COOKIE:
            return None
        traffic = peer.traffic
        traffic.packets_received += 1
        traffic.bytes_received += size
        return data


def _data_of_alike(datagrams: list[bytes], first: int) -> list[bytes]:
    """The data of the ChannelData datagrams that begin with the same header as the ``first``; they may be padded.

    Nothing if that is cut short (RFC 8656 s12.6).
    """
    header = datagrams[first][:_HEADER_BYTES]
    if len(header) < _HEADER_BYTES:
        return []
    end = _HEADER_BYTES + (header[2] << 8 | header[3])
    found = []
    for datagram in datagrams[first:] if first else datagrams:
        if not datagram.startswith(header) or len(datagram) < end:
            break
        found.append(datagram[_HEADER_BYTES:end])
    return found


def _is_whole(message: bytes) -> bool:
    """Whether it is STUN, or ChannelData that is not cut short."""
    if _FIRST_CHANNEL_BYTE <= message[0] < _CHANNELS_END:
        return len(message) >= _HEADER_BYTES and len(message) >= _HEADER_BYTES + (message[2] << 8 | message[3])
    return is_stun(message)


class StreamLegPath(MessageQueue):
    """The bytes of a connection to a STUN or TURN server, both ways; outbound it is the queue of its messages.

    For each chunk read, call `receive`. While it leaves `messages`, hand them to the core, execute what the core
    commands (it may be to `detach`), and call `resume`; then look at `fault`. To write, queue with `send_stun` and
    `send_data`, then write what `take` returns and tell `written`.

    ``early_limit`` bounds the data kept before its peer is admitted, ``send_limit`` what waits to be written, in bytes.
    """

    __slots__ = ("_channels", "_fault", "_splitter", "admitted", "first", "messages", "peers")

    def __init__(self, *, early_limit: int, send_limit: int, transaction_id: Callable[[], bytes]) -> None:
        super().__init__(send_limit)
        self.peers = RelayedPeers(early_limit=early_limit, transaction_id=transaction_id, reliable=True)
        self._channels = self.peers.channels
        self._splitter = ServerStreamSplitter()
        self.first: int | None = None
        """The first byte that came, which tells what a server speaks if it is no STUN."""
        self._fault: StreamFault | None = None
        self.admitted = False
        """The connection stands, and what waits is worth being written before it is closed."""
        self.messages: list[LegMessage] = []
        """For the core, in this order; nothing is split off behind them before `resume`."""

    @property
    def fault(self) -> StreamFault | None:
        """Set when the connection must be closed, after all `messages` that came before."""
        return None if self.messages else self._fault

    def receive(self, chunk: bytes | memoryview) -> Received:
        """Take bytes as they were read, cut anywhere; return the data for the application (and no STUN)."""
        if self.first is None and chunk:
            self.first = chunk[0]
            if self.first >= _FIRST_CHANNEL_BYTE:  # no server begins, so the first thing is the answer to a request
                self._fault = StreamFault.NOT_STUN
        self._splitter.append(chunk)
        return Received([], [] if self.messages else self._split())

    def resume(self) -> list[bytes]:
        """The core has seen all `messages`: return the data for the application that stands behind them."""
        self.messages = []
        return self._split()

    def _split(self) -> list[bytes]:
        """Split off messages until one of the server itself, for it may be the last."""
        splitter, found = self._splitter, []
        try:
            while self._fault is None and (message := splitter.take()) is not None:
                peer = self._channels.get(message[:2])
                if peer is None:
                    self.messages.append(LegMessage(None, message))
                    break
                header, data = message[:_HEADER_BYTES], message[_HEADER_BYTES:]
                alike = [data, *splitter.take_alike(header)]
                if data:
                    stun, others = told_apart(alike)
                    self.messages += [LegMessage(peer.address, message) for message in stun]
                    found += self.peers.receive(peer, others)
        except FramingError:
            self._fault = StreamFault.NOT_STUN
        return found

    def receive_one(self, buffer: memoryview, size: int) -> bytes | None:
        """The short way of a single message: what `receive` would return, if that is one data packet.

        None, and nothing done, if the first ``size`` bytes of ``buffer`` are anything else.
        """
        peer = self._channels.get(bytes(buffer[:2]))
        if peer is None or size <= _HEADER_BYTES or not peer.admitted or self.messages:
            return None
        length = buffer[2] << 8 | buffer[3]
        if not length or _HEADER_BYTES + ((length + 3) & ~3) != size or not self._splitter.is_between:
            return None
        data = bytes(buffer[_HEADER_BYTES : _HEADER_BYTES + length])
        if data[4:8] == COOKIE or self._fault is not None:
            return None
        traffic = peer.traffic
        traffic.packets_received += 1
        traffic.bytes_received += length
        return data

    def detach(self) -> bytes:
        """The server is gone from this connection (RFC 6062 s4.3): return what came behind its last message."""
        return self._splitter.detach()

    def send_stun(self, message: bytes) -> bool:
        """Queue a message to the server before waiting data; False if it was dropped, because too many wait already."""
        if self.urgent_pending >= STUN_QUEUE_BYTES:
            return False
        self.put_urgent(message)
        return True

    def send_data(self, message: bytes) -> int:
        """Queue data, as `RelayedPeer.wrap` made it; return what is `pending` now.

        Or 0, with nothing done, if ``send_limit`` waits already.
        """
        pending = self.pending
        if pending >= self._send_limit:
            return 0
        self._data += (b"", message)
        self.pending = pending = pending + len(message)
        return pending

    def frame_data(self, message: bytes) -> bytes:
        """What to write at once for ``message``, if nothing is `pending`; tell `begun` if not all of it went."""
        return message
