"""UDP on an asyncio event loop, many datagrams a system call (UDP_SEGMENT, UDP_GRO)."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections import deque
from contextlib import suppress
from typing import Protocol

from candidates.candidate import TransportAddress
from ice_tcp.net.sockets import SocketAddress, scope_of, socket_address

MAX_DATAGRAM_BYTES = 65507
"""The longest payload of a UDP datagram over IPv4."""

_READ_BYTES = 65536
_READS_PER_WAKE = 32
"""A busy socket lets the others have their turn after so many reads."""

# linux/udp.h; the socket module does not name them.
_UDP_SEGMENT = 103
_UDP_GRO = 104
_CONTROL_BYTES = socket.CMSG_SPACE(4)
_SEGMENTS = 64
_SEGMENT_BYTES = 65000
_NO_SEGMENTATION = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP)

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class DatagramHandler(Protocol):
    """Who owns a `DatagramSocket`."""

    def datagrams_received(self, data: bytes, source: SocketAddress, segment: int) -> None:
        """``data`` is one datagram, or if ``segment`` is not 0, several of that size in a row."""

    def writable(self) -> None:
        """What `DatagramSocket.send_data` refused may be tried again."""


class DatagramSocket:
    """A UDP socket. It survives whatever ICMP says."""

    __slots__ = ("_batch", "_batch_bytes", "_handler", "_largest_segment", "_loop", "_remote", "_scheduled", "_scope",
                 "_send_limit", "_sock", "_waiting", "_waiting_bytes", "address", "burst")  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, send_limit: int, handler: DatagramHandler
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._handler = handler
        self._send_limit = send_limit
        self._scope = scope_of(sock)
        self.address = TransportAddress(host, sock.getsockname()[1])
        self.burst = 0
        """Messages since the loop last had its turn."""
        self._scheduled = False
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._remote: SocketAddress = ("", 0)
        self._largest_segment = _SEGMENT_BYTES
        self._waiting: deque[tuple[bytes, SocketAddress]] = deque()  # the kernel's buffer is full
        self._waiting_bytes = 0
        with suppress(OSError):  # else datagrams come one by one
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        loop.add_reader(sock, self._read)

    def socket_address(self, remote: TransportAddress) -> SocketAddress:
        """``remote`` as this socket takes it, on its link if it is link-local. Raises NetworkError."""
        return socket_address(remote, self._scope)

    def send(self, data: bytes, remote: SocketAddress) -> None:
        """Send one datagram now, or lose it."""
        with suppress(OSError):  # as if lost on the way
            self._sock.sendto(data, remote)

    def send_data(self, data: bytes, remote: SocketAddress) -> bool:
        """Send a datagram; False, and nothing done, if too much waits already.

        The first one of a loop iteration leaves at once; those that follow are joined. Raises ValueError for more
        than 65507 bytes.
        """
        size = len(data)
        if size > MAX_DATAGRAM_BYTES:
            raise ValueError(f"a message of {size} bytes does not fit a UDP datagram of at most {MAX_DATAGRAM_BYTES}")
        self.burst += 1
        if self._waiting:
            return self._wait(data, remote)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)
            try:
                self._sock.sendto(data, remote)
            except _WOULD_BLOCK:
                self._wait(data, remote)
            except OSError:
                pass  # as if lost on the way
        else:
            self._join(data, size, remote)
        return True

    def _join(self, data: bytes, size: int, remote: SocketAddress) -> None:
        """Put the datagram into the batch: all of one size, only the last may be shorter."""
        batch = self._batch
        if batch and (
            size > len(batch[0])
            or not size  # in a batch it would vanish
            or remote != self._remote
            or len(batch) == _SEGMENTS
            or self._batch_bytes + size > _SEGMENT_BYTES
        ):
            self._send_batch()
            batch = self._batch
        batch.append(data)
        self._batch_bytes += size
        self._remote = remote
        if size < len(batch[0]) or not 0 < size <= self._largest_segment:
            self._send_batch()

    def _flush(self) -> None:
        self._scheduled = False
        self.burst = 0
        if self._batch:
            self._send_batch()

    def _send_batch(self) -> None:
        batch, remote = self._batch, self._remote
        self._batch, self._batch_bytes = [], 0
        size = len(batch[0])
        if len(batch) == 1 or size > self._largest_segment:
            self._send_singly(batch, remote)
            return
        control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]
        try:
            self._sock.sendmsg(batch, control, 0, remote)
        except OSError as error:
            if error.errno in _NO_SEGMENTATION:
                self._largest_segment = size - 1  # over the MTU, or no such thing here
            self._send_singly(batch, remote)

    def _send_singly(self, batch: list[bytes], remote: SocketAddress) -> None:
        for position, data in enumerate(batch):
            try:
                self._sock.sendto(data, remote)
            except _WOULD_BLOCK:
                for later in batch[position:]:
                    self._wait(later, remote)
                return
            except OSError:
                continue  # as if lost on the way

    def _wait(self, data: bytes, remote: SocketAddress) -> bool:
        """Keep a datagram until the kernel takes more."""
        if self._waiting_bytes >= self._send_limit:
            return False
        if not self._waiting:
            self._loop.add_writer(self._sock, self._write_waiting)
        self._waiting.append((data, remote))
        self._waiting_bytes += len(data)
        return True

    def _write_waiting(self) -> None:
        waiting = self._waiting
        self.burst = 0
        while waiting:
            data, remote = waiting[0]
            try:
                self._sock.sendto(data, remote)
            except _WOULD_BLOCK:
                break
            except OSError:
                pass  # as if lost on the way
            waiting.popleft()
            self._waiting_bytes -= len(data)
        if not waiting:
            self._loop.remove_writer(self._sock)
        if self._waiting_bytes <= self._send_limit // 4:
            self._handler.writable()

    def discard(self, remote: SocketAddress) -> None:
        """Forget what waits for ``remote``: nobody wants it there any more."""
        if self._batch and self._remote == remote:
            self._batch, self._batch_bytes = [], 0
        if self._waiting:
            self._waiting = deque(item for item in self._waiting if item[1] != remote)
            self._waiting_bytes = sum(len(data) for data, _ in self._waiting)
            if not self._waiting:
                self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        receive, handler = self._sock.recvmsg, self._handler
        for _ in range(_READS_PER_WAKE):
            try:
                data, control, _, source = receive(_READ_BYTES, _CONTROL_BYTES)
            except _WOULD_BLOCK:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram, reported once
            segment = int.from_bytes(control[0][2], sys.byteorder) if control else 0
            handler.datagrams_received(data, source, segment)
            if self._sock.fileno() < 0:
                return

    def close(self) -> None:
        """Send what was joined, then close."""
        if self._sock.fileno() < 0:
            return
        if self._batch:
            self._send_batch()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._waiting.clear()
        self._sock.close()
