"""Channels: four bytes of header instead of an indication's thirty-six (RFC 8656 s12)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn.link import Link
from ice_tcp.core.turn.requests import Requests
from ice_tcp.stun import Attribute, DecodeError, Message, Method

FIRST_CHANNEL, LAST_CHANNEL = 0x4000, 0x4FFF
REFRESH_INTERVAL = 540.0
"""Seconds of the ten minutes that a binding lasts (RFC 8656 s12); the rest is for retransmissions."""
MOST_BYTES = 0xFFFF
"""The longest data that ChannelData can carry."""

_HEADER_BYTES = 4
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def is_channel_data(data: bytes) -> bool:
    """Whether the first byte says so (RFC 8656 s12, RFC 7983 s7)."""
    return bool(data) and 0x40 <= data[0] <= 0x4F


def read_channel_data(data: bytes) -> tuple[int, bytes]:
    """Channel number and data of a ChannelData message, with or without padding. Raises DecodeError."""
    size = int.from_bytes(data[2:4], "big")
    if len(data) < _HEADER_BYTES + size:
        raise DecodeError(f"ChannelData of {size} bytes in a message of {len(data)}")
    return int.from_bytes(data[:2], "big"), data[_HEADER_BYTES : _HEADER_BYTES + size]


class ChannelState(Enum):
    """Where a channel stands; data may come in on it in all but REFUSED."""

    ASKED = auto()
    BOUND = auto()
    LAPSED = auto()
    """Released, or not refreshed in time; the next data asks again."""
    REFUSED = auto()
    """Send indications have to do."""


class Channel:
    """A channel number and the peer it stands for, for as long as the allocation lives.

    So no number is ever bound to another peer, which would take a wait of five minutes (RFC 8656 s12).
    """

    __slots__ = ("number", "peer", "prefix", "state", "timer")

    def __init__(self, number: int, peer: TransportAddress) -> None:
        self.number = number
        self.peer = peer
        self.prefix = number.to_bytes(2, "big")
        self.state = ChannelState.ASKED
        self.timer: Timer | None = None


class Channels:
    """The channels of one allocation. Once bound, they are refreshed until released.

    ``bound(peer, number, now)`` hears of the first success of each, ``lost(peer, now)`` when it is in use no more,
    ``extended(host, now)`` of every success.
    ``failed(failure, asked_at, now)`` hears of each failed request and tells whether the allocation lives on,
    ``out_of_sync(failure, now)`` that the server has other ideas of a bound channel (RFC 8656 s12.3).
    """

    __slots__ = (
        "_bound",
        "_by_number",
        "_by_peer",
        "_extended",
        "_failed",
        "_link",
        "_lost",
        "_out_of_sync",
        "_prefixes",
        "_requests",
    )

    def __init__(
        self,
        link: Link,
        requests: Requests,
        *,
        bound: Callable[[TransportAddress, int, float], None],
        lost: Callable[[TransportAddress, float], None],
        extended: Callable[[str, float], None],
        failed: Callable[[ServerFailure, float, float], bool],
        out_of_sync: Callable[[ServerFailure, float], None],
    ) -> None:
        self._link = link
        self._requests = requests
        self._bound = bound
        self._lost = lost
        self._extended = extended
        self._failed = failed
        self._out_of_sync = out_of_sync
        self._by_peer: dict[TransportAddress, Channel] = {}
        self._by_number: dict[int, Channel] = {}
        self._prefixes: dict[TransportAddress, bytes] = {}  # of bound channels

    def packed(self, peer: TransportAddress, data: bytes) -> bytes | None:
        """ChannelData to ``peer``, padded over a stream; None if it has no bound channel."""
        prefix = self._prefixes.get(peer)
        if prefix is None:
            return None
        size = len(data)
        padding = _PADDING[size & 3] if self._link.reliable else b""
        return b"".join((prefix, size.to_bytes(2, "big"), data, padding))

    def peer_of(self, number: int) -> TransportAddress | None:
        """Whose data comes on a channel: from the asking on (RFC 8656 s12), unless it was refused."""
        channel = self._by_number.get(number)
        return channel.peer if channel is not None and channel.state is not ChannelState.REFUSED else None

    def bind(self, peer: TransportAddress, now: float) -> None:
        """Ask for a channel, unless that was done or all numbers are taken."""
        channel = self._by_peer.get(peer)
        if channel is None:
            number = FIRST_CHANNEL + len(self._by_number)
            if number > LAST_CHANNEL:
                return
            channel = self._by_peer[peer] = self._by_number[number] = Channel(number, peer)
            self._ask(channel, now)
        elif channel.state is ChannelState.LAPSED:
            channel.state = ChannelState.ASKED
            self._ask(channel, now)

    def release(self, host: str, now: float) -> None:
        """Let the channels to ``host`` run out; data from it still comes in until then."""
        for channel in self._by_peer.values():
            if channel.peer.host == host and channel.state is not ChannelState.REFUSED:
                self._lapse(channel, ChannelState.LAPSED, now)

    def clear(self) -> None:
        for channel in self._by_peer.values():
            self._stop(channel, ChannelState.LAPSED)
        self._by_peer.clear()
        self._by_number.clear()

    def _ask(self, channel: Channel, now: float) -> None:
        def build(transaction_id: bytes) -> list[Attribute]:
            peer = channel.peer
            return [
                stun.channel_number(channel.number),
                stun.xor_peer_address(peer.host, peer.port, transaction_id),
            ]

        def succeeded(_message: Message, at: float) -> None:
            self._succeeded(channel, at)

        def refused(failure: ServerFailure, _message: Message | None, at: float) -> None:
            self._refused(channel, failure, now, at)

        self._requests.send(Method.CHANNEL_BIND, build, succeeded, refused, now)

    def _succeeded(self, channel: Channel, now: float) -> None:
        self._extended(channel.peer.host, now)
        if channel.state is ChannelState.LAPSED:  # released meanwhile
            return
        is_new = channel.state is ChannelState.ASKED
        channel.state = ChannelState.BOUND
        self._prefixes[channel.peer] = channel.prefix
        channel.timer = self._link.context.timers.set(now + REFRESH_INTERVAL, lambda at: self._ask(channel, at))
        if is_new:
            self._bound(channel.peer, channel.number, now)

    def _refused(self, channel: Channel, failure: ServerFailure, asked_at: float, now: float) -> None:
        was_bound = channel.state is ChannelState.BOUND
        silent = failure.cause is ServerVerdict.NO_RESPONSE
        self._lapse(channel, ChannelState.LAPSED if silent else ChannelState.REFUSED, now)
        if self._failed(failure, asked_at, now) and was_bound and failure.cause is ServerVerdict.BAD_REQUEST:
            self._out_of_sync(failure, now)

    def _lapse(self, channel: Channel, state: ChannelState, now: float) -> None:
        was_bound = channel.state is ChannelState.BOUND
        self._stop(channel, state)
        if was_bound:
            self._lost(channel.peer, now)

    def _stop(self, channel: Channel, state: ChannelState) -> None:
        channel.state = state
        self._prefixes.pop(channel.peer, None)
        if channel.timer is not None:
            channel.timer.cancel()
