"""Application data and STUN on one TCP connection to a peer. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from ice_tcp.datapath.traffic import COOKIE, Received, Traffic, told_apart
from ice_tcp.framing import HEADER_BYTES, MAX_FRAME_BYTES, FrameQueue, FrameSplitter
from ice_tcp.stun import is_stun

_COOKIE_END = 8
_STUN_HEADER_BYTES = 20

STUN_QUEUE_BYTES = 64 * 1024
"""STUN that waits for a peer that does not read; more is dropped, as the network would."""

CHUNK_BYTES = 16 * 1024
"""Of a byte stream in one packet; STUN can go between two of them."""


class StreamFault(StrEnum):
    """Why a connection is of no use; the codes are those of `ice_tcp.core.commands.Failure`."""

    NOT_STUN = "not-stun"
    TOO_MUCH_EARLY_DATA = "too-much-early-data"


class StreamPath(FrameQueue):
    """The bytes of one TCP connection, both ways (RFC 6544 s10); outbound it is the queue of its frames.

    For each chunk read, call `receive`, hand its STUN to the core and execute what the core commands (it may be
    `admit`), then look at `fault`. To write, queue with `send_stun` and `send_data`, then write what `take` returns
    and tell `written`.

    ``early_limit`` bounds the data kept before `admit`, ``send_limit`` what waits to be written, in bytes.
    """

    __slots__ = (
        "_early",
        "_early_bytes",
        "_early_limit",
        "_not_stun",
        "_splitter",
        "_started",
        "admitted",
        "traffic",
    )

    def __init__(self, *, early_limit: int, send_limit: int) -> None:
        super().__init__(send_limit)
        self._splitter = FrameSplitter()
        self._early_limit = early_limit
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._started = False
        self._not_stun = False
        self.admitted = False
        self.traffic = Traffic()

    @property
    def fault(self) -> StreamFault | None:
        """Set when the connection must be closed; ask after the STUN of a chunk was handled, which may admit."""
        if self._not_stun:
            return StreamFault.NOT_STUN
        return StreamFault.TOO_MUCH_EARLY_DATA if self._early_bytes > self._early_limit else None

    def receive(self, chunk: bytes | memoryview) -> Received:
        """Take bytes as they were read, cut anywhere; the packets returned own their bytes."""
        if not self.admitted and self.fault is not None:
            return Received([], [])
        packets = self._splitter.feed(chunk)
        if not self._started and not self._starts_with_stun(packets):
            return Received([], [])
        stun, data = told_apart(packets)
        if not data:
            return Received(stun, data)
        size = sum(map(len, data))
        traffic = self.traffic
        traffic.packets_received += len(data)
        traffic.bytes_received += size
        if self.admitted:
            return Received(stun, data)
        self._early += data
        self._early_bytes += size
        return Received(stun, [])

    def receive_one(self, buffer: memoryview, size: int) -> bytes | None:
        """The short way of a single message: what `receive` would return, if that is one data packet and no STUN.

        None, and nothing done, if the first ``size`` bytes of ``buffer`` are anything else.
        """
        length = size - HEADER_BYTES
        if (
            (buffer[0] << 8 | buffer[1]) != length
            or not self.admitted
            or self._splitter.unfinished
            or not self._started
        ):
            return None
        packet = buffer[HEADER_BYTES:size].tobytes()
        if not packet or packet[4:8] == COOKIE:
            return None
        traffic = self.traffic
        traffic.packets_received += 1
        traffic.bytes_received += length
        return packet

    def _starts_with_stun(self, packets: list[bytes]) -> bool:
        """Check the first packet, as soon as its start tells: what is no ICE peer may never complete it."""
        if packets:
            self._started = is_stun(packets[0])
            self._not_stun = not self._started
        else:
            frame = self._splitter.unfinished
            if len(frame) >= HEADER_BYTES + _COOKIE_END:
                rest = (frame[0] << 8 | frame[1]) - _STUN_HEADER_BYTES
                self._not_stun = frame[2] >= 0x40 or frame[6:10] != COOKIE or (frame[4] << 8 | frame[5]) != rest
        return not self._not_stun

    def admit(self) -> list[bytes]:
        """An authenticated message came: return the data kept so far; `receive` returns data from now on."""
        self.admitted = True
        early, self._early, self._early_bytes = self._early, [], 0
        return early

    def send_stun(self, message: bytes) -> bool:
        """Queue a STUN message before waiting data; False if it was dropped, because too many wait already."""
        if self.urgent_pending >= STUN_QUEUE_BYTES:
            return False
        self.put_urgent(message)
        return True

    def send_data(self, data: bytes) -> int:
        """Queue a data packet; return what is `pending` now, or 0, with nothing done, if ``send_limit`` waits already.

        Raises ValueError for more than MAX_FRAME_BYTES.
        """
        size = len(data)
        if size > MAX_FRAME_BYTES:
            raise _too_long(data)
        pending = self.pending
        if pending >= self._send_limit:
            return 0
        # As `put`, whose call would cost a tenth of all that is done for a message.
        if size != self._size:
            self._size = size
            self._header = size.to_bytes(HEADER_BYTES, "big")
        self._data += (self._header, data)
        self.pending = pending = pending + size + HEADER_BYTES
        traffic = self.traffic
        traffic.packets_sent += 1
        traffic.bytes_sent += size
        return pending

    def queue_data(self, data: bytes | memoryview) -> None:
        """Queue a data packet of at most MAX_FRAME_BYTES, whatever waits already; ``data`` must not change later."""
        self.put(data)
        traffic = self.traffic
        traffic.packets_sent += 1
        traffic.bytes_sent += len(data)

    def frame_data(self, data: bytes) -> bytes:
        """The frame of a data packet, to write at once if nothing is `pending`; tell `begun` if not all of it went.

        Raises ValueError for more than MAX_FRAME_BYTES.
        """
        size = len(data)
        if size != self._size:
            if size > MAX_FRAME_BYTES:
                raise _too_long(data)
            self._size = size
            self._header = size.to_bytes(HEADER_BYTES, "big")
        traffic = self.traffic
        traffic.packets_sent += 1
        traffic.bytes_sent += size
        return self._header + data


def stream_chunks(data: bytes) -> Iterator[memoryview]:
    """Cut a part of a byte stream into data packets none of which reads as a STUN message (RFC 6544 s10.1)."""
    view, start = memoryview(data), 0
    while start < len(view):
        end = min(start + CHUNK_BYTES, len(view))
        if is_stun(view[start:end]):
            end -= 1  # and the length in what looks like a STUN header is wrong
        yield view[start:end]
        start = end


def _too_long(data: bytes) -> ValueError:
    return ValueError(f"a message of {len(data)} bytes does not fit a frame of at most {MAX_FRAME_BYTES} (RFC 4571)")
