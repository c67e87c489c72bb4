"""How packets lie in byte streams: RFC 4571 frames between peers, self-delimiting messages to servers.

Everything an ICE connection carries is framed, STUN and data alike, for its whole life (RFC 6544 s7.1, s10): two
bytes of length in network order, then the packet. STUN and TURN servers speak unframed (RFC 8489 s6.2.2).
No I/O: `FrameSplitter` and `ServerStreamSplitter` take what was read, `FrameQueue` and `MessageQueue` say what to
write next.
"""

from __future__ import annotations

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

HEADER_BYTES = 2
MAX_FRAME_BYTES = 0xFFFF
"""The longest packet that LENGTH can tell."""

JOIN_BYTES = 256 * 1024
"""Frames are joined for one write up to about this size."""
JOIN_FRAMES = 500
"""... and up to this number; a frame is two buffers, and the kernel takes 1024 (IOV_MAX)."""

_NO_LIMIT = 1 << 62

LAST_CHANNEL = 0x4FFF
"""RFC 8656 s12."""

_STUN_HEADER_BYTES = 20
_CHANNEL_HEADER_BYTES = 4
_COOKIE = b"\x21\x12\xa4\x42"
_COOKIE_END = 8


class FramingError(ValueError):
    """A stream carries something else than the protocol; no message can be found in it any more.

    ``messages`` are those that `ServerStreamSplitter.feed` completed before.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.messages: list[bytes] = []


class FrameSplitter:
    """Cuts a byte stream into its packets, however it was split on the way.

    Packets of length zero are legal (RFC 4571 s2) and vanish here.
    """

    __slots__ = ("unfinished",)

    def __init__(self) -> None:
        self.unfinished = bytearray()
        """The frame begun but not complete, with its header; never longer than one frame."""

    def feed(self, chunk: bytes | memoryview) -> list[bytes]:
        """Return the packets that ``chunk`` completes, in order; each is copied once, and owns its bytes."""
        packets: list[bytes] = []
        size = len(chunk)
        position = self._continue(chunk, packets) if self.unfinished else 0
        while size - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            end = start + (chunk[position] << 8 | chunk[position + 1])
            if end > size:
                break
            if end > start:
                packets.append(bytes(chunk[start:end]))
            position = end
        if position < size:
            self.unfinished += chunk[position:]
        return packets

    def _continue(self, chunk: bytes | memoryview, packets: list[bytes]) -> int:
        """Complete the unfinished frame as far as ``chunk`` goes; return how much of ``chunk`` that took."""
        unfinished = self.unfinished
        position = 0
        if len(unfinished) < HEADER_BYTES:  # the split went between the two bytes of LENGTH
            position = min(1, len(chunk))
            unfinished += chunk[:position]
            if len(unfinished) < HEADER_BYTES:
                return position
        missing = HEADER_BYTES + (unfinished[0] << 8 | unfinished[1]) - len(unfinished)
        unfinished += chunk[position : position + missing]
        taken = min(missing, len(chunk) - position)
        if taken == missing:
            if len(unfinished) > HEADER_BYTES:
                packets.append(bytes(memoryview(unfinished)[HEADER_BYTES:]))
            self.unfinished = bytearray()
        return position + taken


class ServerStreamSplitter:
    """Cuts the stream between a client and a STUN or TURN server into its messages, however it was split.

    Each is a whole STUN message, or a ChannelData message with its header and without its padding (RFC 8656
    s12.5). `feed` returns all; where a message may end the protocol, as ConnectionBind does (RFC 6062 s4.3),
    call `append`, then `take` one by one, and `detach` for what came after it.

    ``last_channel`` is the highest channel number there may be; RFC 5766 had more of them.
    """

    __slots__ = ("_buffer", "_channels_end", "_position")

    def __init__(self, *, last_channel: int = LAST_CHANNEL) -> None:
        self._channels_end = (last_channel >> 8) + 1  # as far as the first byte tells
        self._buffer = bytearray()
        self._position = 0  # of the next message; beyond the buffer while padding is outstanding

    def feed(self, chunk: bytes | memoryview) -> list[bytes]:
        """Return the messages that ``chunk`` completes. Raises FramingError as `take` does."""
        self.append(chunk)
        messages: list[bytes] = []
        try:
            while (message := self.take()) is not None:
                messages.append(message)
        except FramingError as error:
            error.messages = messages
            raise
        return messages

    def append(self, chunk: bytes | memoryview) -> None:
        """Take bytes as they were read; then call `take` until it returns None."""
        taken = min(self._position, len(self._buffer))
        del self._buffer[:taken]
        self._position -= taken
        self._buffer += chunk

    def take(self) -> bytes | None:
        """Return the next message, None if it is not complete.

        Raises FramingError for what is neither STUN nor ChannelData, as early as that shows, and ever after.
        """
        buffer, start = self._buffer, self._position
        available = len(buffer) - start
        if available <= 0:
            return None
        first = buffer[start]
        if first < 0x40:
            size = padded = self._stun_size(available)
        elif first < self._channels_end:
            size, padded = self._channel_data_size(available)
        else:
            raise FramingError(f"first byte 0x{first:02x} is of neither STUN nor ChannelData (RFC 8656 s12)")
        if not size or size > available:
            return None
        self._position = start + padded
        return bytes(memoryview(buffer)[start : start + size])

    def take_alike(self, header: bytes) -> list[bytes]:
        """Return the data of the complete ChannelData messages that come next, as far as they begin with ``header``.

        That is the first four bytes of one that was taken; a burst most often has one channel and one length.
        """
        buffer, start = self._buffer, self._position
        size = int.from_bytes(header[2:], "big")
        step = _CHANNEL_HEADER_BYTES + ((size + 3) & ~3)
        last = len(buffer) - _CHANNEL_HEADER_BYTES - size
        found: list[bytes] = []
        with memoryview(buffer) as view:
            while start <= last and view[start : start + _CHANNEL_HEADER_BYTES] == header:
                data = start + _CHANNEL_HEADER_BYTES
                found.append(bytes(view[data : data + size]))
                start += step
        self._position = start
        return found

    @property
    def is_between(self) -> bool:
        """Nothing of a message is kept, nor padding outstanding: what is read next begins one."""
        return self._position == len(self._buffer)

    def detach(self) -> bytes:
        """Remove and return what came after the last message taken."""
        rest = bytes(memoryview(self._buffer)[self._position :])
        self._buffer, self._position = bytearray(), 0
        return rest

    def _stun_size(self, available: int) -> int:
        """Bytes of the STUN message that begins here; 0 if that is not known yet."""
        buffer, start = self._buffer, self._position
        cookie = buffer[start + 4 : start + _COOKIE_END]
        if not _COOKIE.startswith(cookie):
            raise FramingError("no magic cookie where a STUN message would have it")
        if available < _CHANNEL_HEADER_BYTES:
            return 0
        length = buffer[start + 2] << 8 | buffer[start + 3]
        if length & 3:
            raise FramingError(f"STUN length {length} is no multiple of 4")
        return _STUN_HEADER_BYTES + length

    def _channel_data_size(self, available: int) -> tuple[int, int]:
        """Bytes of the ChannelData message that begins here, without and with its padding; 0 if not known yet."""
        if available < _CHANNEL_HEADER_BYTES:
            return 0, 0
        start = self._position
        size = _CHANNEL_HEADER_BYTES + (self._buffer[start + 2] << 8 | self._buffer[start + 3])
        return size, (size + 3) & ~3


class WriteQueue:
    """What waits to be written on a connection, in two queues: what is urgent (STUN) goes before data.

    It overtakes at the boundaries of packets only: one that is written in part is finished first. Write what
    `take` returns, as one gathered write, and tell `written` how much of it went, each time. ``send_limit`` is the
    number of bytes from which on the queue is full; whoever puts into it may look.
    """

    __slots__ = ("_batch", "_batch_bytes", "_begun", "_data", "_overtaken", "_send_limit", "_urgent", "pending")

    def __init__(self, send_limit: int = _NO_LIMIT) -> None:
        self.pending = 0
        """Bytes that wait, headers included."""
        # All three are flat: header, packet, header, packet...
        self._urgent: list[Buffer] = []
        self._data: list[Buffer] = []
        self._batch: list[Buffer] = []
        self._batch_bytes = 0
        self._begun = False  # the batch starts with the rest of a packet
        self._overtaken = 0  # where the data starts in the batch
        self._send_limit = send_limit

    @property
    def urgent_pending(self) -> int:
        """Bytes that wait in the first queue."""
        return sum(map(len, self._urgent))

    @property
    def is_full(self) -> bool:
        """As much waits as may."""
        return self.pending >= self._send_limit

    @property
    def has_room(self) -> bool:
        """Little enough waits that a sender who was refused may go on."""
        return self.pending <= self._send_limit // 4

    def begun(self, packet: bytes, count: int) -> None:
        """A packet with its header was written past the empty queue, but only ``count`` bytes went: keep the rest."""
        self._batch = [b"", memoryview(packet)[count:]]
        self._batch_bytes = self.pending = len(packet) - count
        self._begun = True

    def take(self) -> list[Buffer]:
        """Return the buffers to write next, in order."""
        batch = self._batch
        if not batch and not self._urgent and self.pending <= JOIN_BYTES and len(self._data) <= 2 * JOIN_FRAMES:
            self._batch, self._data = self._data, batch
            self._batch_bytes = self.pending
            return self._batch
        self._move(self._urgent)
        self._overtaken = len(batch)
        self._move(self._data)
        return batch

    def _move(self, queue: list[Buffer]) -> None:
        batch, size, index = self._batch, self._batch_bytes, 0
        room = min(len(queue), 2 * JOIN_FRAMES - len(batch))
        while index < room and size < JOIN_BYTES:
            size += len(queue[index]) + len(queue[index + 1])
            index += 2
        batch += queue[:index]
        del queue[:index]
        self._batch_bytes = size

    def written(self, count: int) -> bool:
        """``count`` bytes of the last `take` were written; packets that were not begun go back into their queue.

        Returns whether all of it was written.
        """
        self.pending -= count
        if count == self._batch_bytes:
            self._batch, self._batch_bytes, self._begun, self._overtaken = [], 0, False, 0
            return True
        batch, index = self._batch, 0
        while count >= (size := len(batch[index]) + len(batch[index + 1])):
            count -= size
            index += 2
        rest: list[Buffer] = []
        if count or (self._begun and not index):
            header, packet = batch[index : index + 2]
            begun = count - len(header)
            rest = [header[count:], packet] if begun < 0 else [b"", memoryview(packet)[begun:]]
            index += 2
        self._urgent[:0] = batch[index : self._overtaken]
        self._data[:0] = batch[max(index, self._overtaken) :]
        self._batch, self._batch_bytes, self._begun, self._overtaken = rest, sum(map(len, rest)), bool(rest), 0
        return False


class FrameQueue(WriteQueue):
    """What waits to be written on a connection to a peer: frames of RFC 4571."""

    __slots__ = ("_header", "_size")

    def __init__(self, send_limit: int = _NO_LIMIT) -> None:
        super().__init__(send_limit)
        self._size = 0
        self._header = bytes(HEADER_BYTES)

    def put(self, packet: bytes | memoryview) -> None:
        """Queue a data packet of at most MAX_FRAME_BYTES."""
        size = len(packet)
        if size != self._size:  # most packets of a burst are of one size
            self._size = size
            self._header = size.to_bytes(HEADER_BYTES, "big")
        self._data += (self._header, packet)
        self.pending += size + HEADER_BYTES

    def put_urgent(self, packet: bytes) -> None:
        """Queue a packet of at most MAX_FRAME_BYTES before all data."""
        size = len(packet)
        self._urgent += (size.to_bytes(2, "big"), packet)
        self.pending += size + HEADER_BYTES


class MessageQueue(WriteQueue):
    """What waits to be written on a connection to a server: whole messages, ready padded, without frames."""

    __slots__ = ()

    def put(self, message: bytes) -> None:
        self._data += (b"", message)
        self.pending += len(message)

    def put_urgent(self, message: bytes) -> None:
        """Queue a message before all data."""
        self._urgent += (b"", message)
        self.pending += len(message)
