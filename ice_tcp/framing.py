"""RFC 4571 frames: two bytes of length in network order, then the packet.

Everything an ICE connection carries is framed, STUN and data alike, for its whole life (RFC 6544 s7.1, s10).
No I/O: `FrameSplitter` takes what was read, `FrameQueue` says what to write next.
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


class FrameSplitter:
    """Cuts a byte stream into its packets, however it was split on the way.

    Packets of length zero are legal (RFC 4571 s2) and vanish here.
    """

    __slots__ = ("_unfinished",)

    def __init__(self) -> None:
        self._unfinished = bytearray()

    @property
    def unfinished(self) -> bytearray:
        """The frame begun but not complete, with its header; never longer than one frame."""
        return self._unfinished

    def feed(self, chunk: bytes | memoryview) -> list[bytes]:
        """Return the packets that ``chunk`` completes, in order; each is copied once, and owns its bytes."""
        packets: list[bytes] = []
        size = len(chunk)
        position = self._continue(chunk, packets) if self._unfinished else 0
        while size - position >= HEADER_BYTES:
            start = position + HEADER_BYTES
            end = start + (chunk[position] << 8 | chunk[position + 1])
            if end > size:
                break
            if end > start:
                packets.append(bytes(chunk[start:end]))
            position = end
        if position < size:
            self._unfinished += chunk[position:]
        return packets

    def _continue(self, chunk: bytes | memoryview, packets: list[bytes]) -> int:
        """Complete the unfinished frame as far as ``chunk`` goes; return how much of ``chunk`` that took."""
        unfinished = self._unfinished
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
            self._unfinished = bytearray()
        return position + taken


class FrameQueue:
    """What waits to be written on a connection, in two queues: STUN goes before data.

    STUN overtakes at frame boundaries only: a frame that is written in part is finished first. Write what
    `take` returns, as one gathered write, and tell `written` how much of it went, each time.
    """

    __slots__ = ("_batch", "_batch_bytes", "_begun", "_data", "_overtaken", "_urgent", "pending")

    def __init__(self) -> None:
        self.pending = 0
        """Bytes that wait, headers included."""
        # All three are flat: header, packet, header, packet...
        self._urgent: list[Buffer] = []
        self._data: list[Buffer] = []
        self._batch: list[Buffer] = []
        self._batch_bytes = 0
        self._begun = False  # the batch starts with the rest of a frame
        self._overtaken = 0  # where the data starts in the batch

    @property
    def urgent_pending(self) -> int:
        """Bytes that wait in the first queue."""
        return sum(map(len, self._urgent))

    def put(self, packet: bytes | memoryview) -> None:
        """Queue a data packet of at most MAX_FRAME_BYTES."""
        size = len(packet)
        self._data += (size.to_bytes(2, "big"), packet)
        self.pending += size + HEADER_BYTES

    def put_urgent(self, packet: bytes) -> None:
        """Queue a packet of at most MAX_FRAME_BYTES before all data."""
        size = len(packet)
        self._urgent += (size.to_bytes(2, "big"), packet)
        self.pending += size + HEADER_BYTES

    def begun(self, frame: bytes, count: int) -> None:
        """A whole frame was written past the empty queue, but only ``count`` bytes of it went: keep the rest."""
        self._batch = [b"", memoryview(frame)[count:]]
        self._batch_bytes = self.pending = len(frame) - count
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
            size += HEADER_BYTES + len(queue[index + 1])
            index += 2
        batch += queue[:index]
        del queue[:index]
        self._batch_bytes = size

    def written(self, count: int) -> bool:
        """``count`` bytes of the last `take` were written; frames that were not begun go back into their queue.

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
