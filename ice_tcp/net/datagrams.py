"""UDP on an asyncio event loop, many datagrams a system call (UDP_SEGMENT, UDP_GRO)."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeAlias

from candidates.candidate import TransportAddress
from ice_tcp.datapath import Traffic
from ice_tcp.net.sockets import SocketAddress, scope_of, socket_address

MAX_DATAGRAM_BYTES = 65507
"""The longest payload of a UDP datagram over IPv4."""

_READ_BYTES = 65536
_READS_PER_WAKE = 32
"""A busy socket lets the others have their turn after so many reads."""

_QUIET_WAKES = 8
"""Looking for a second datagram in vain costs half of what reading one does; so not each time after the first was
alone."""

# linux/udp.h; the socket module does not name them.
_UDP_SEGMENT = 103
_UDP_GRO = 104
_CONTROL_BYTES = socket.CMSG_SPACE(4)
_SEGMENTS = 64
_SEGMENT_BYTES = 65000
_NO_SEGMENTATION = (errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT, errno.EOPNOTSUPP)

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


DeliverOne: TypeAlias = Callable[[bytes, SocketAddress], bool]


def refuse_one(data: bytes, source: SocketAddress) -> bool:  # noqa: ARG001 - stands for an application
    """A `DatagramSocket.deliver_one` that has all datagrams come by ``datagrams_received``."""
    return False


class DatagramHandler(Protocol):
    """Who owns a `DatagramSocket`."""

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:
        """One or more have come. With ``at_once`` this turn is over: whoever waits for them may run, and close us."""

    def writable(self) -> None:
        """What `DatagramSocket.send_data` refused may be tried again."""


class DatagramSocket:
    """A UDP socket. It survives whatever ICMP says."""

    __slots__ = (
        "_batch",
        "_bursty",
        "_grouped",
        "_handler",
        "_joining",
        "_largest_segment",
        "_loop",
        "_quiet",
        "_remote",
        "_room",
        "_scope",
        "_segment",
        "_send_limit",
        "_sock",
        "_waiting",
        "_waiting_bytes",
        "address",
        "burst",
        "deliver_one",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, send_limit: int, handler: DatagramHandler
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._handler = handler
        self._send_limit = send_limit
        self._scope = scope_of(sock)
        self.address = TransportAddress(host, sock.getsockname()[1])
        self.deliver_one: DeliverOne = refuse_one
        """The short way of a lone message to the application; if it returns False, ``datagrams_received`` is called.

        It is the last thing done in a turn, and may close the socket.
        """
        self.burst = 0
        """Datagrams sent since the loop last had its turn, as far as we know."""
        self._joining = False
        self._bursty = False  # the last iteration had more than a message or two
        self._grouped = False  # the last turn brought datagrams in groups, and more may follow the first of the next
        self._quiet = 0  # wake-ups that look for one datagram only
        self._batch: list[bytes] = []
        self._segment = 0  # size of those in the batch
        self._room = 0  # for so many more
        self._remote: SocketAddress = ("", 0)
        self._largest_segment = _SEGMENT_BYTES
        # What the kernel had no room for; an empty deque has 0.7 KiB, and most sockets never need one.
        self._waiting: deque[tuple[SocketAddress, bytes]] | None = None
        self._waiting_bytes = 0
        with suppress(OSError):  # else datagrams come one by one
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        loop.add_reader(sock.fileno(), self._read)

    @property
    def is_open(self) -> bool:
        return self._sock.fileno() >= 0

    def socket_address(self, remote: TransportAddress) -> SocketAddress:
        """``remote`` as this socket takes it, on its link if it is link-local. Raises NetworkError."""
        return socket_address(remote, self._scope)

    def send(self, data: bytes, remote: SocketAddress) -> None:
        """Send one datagram now, or lose it."""
        try:
            self._sock.sendto(data, remote)
        except OSError as error:
            self._lost(error)

    def send_data(self, remote: SocketAddress, traffic: Traffic, data: bytes) -> int:
        """Send a datagram; return how many went since the loop last had its turn, this one included.

        0, and nothing done, if too much waits already. A single one leaves at once; in a burst those that follow in
        the same loop iteration are joined. Raises ValueError for more than 65507 bytes.
        """
        size = len(data)
        if size > MAX_DATAGRAM_BYTES:
            raise ValueError(f"a message of {size} bytes does not fit a UDP datagram of at most {MAX_DATAGRAM_BYTES}")
        if self._waiting:
            if not self._wait(remote, data):
                return 0
        elif not self._joining:
            if self.burst or self._bursty:  # perhaps not the first of this iteration, or hardly the last
                self._joining = True
                self._loop.call_soon(self._flush)
            self._send_one(remote, data)
        elif size == self._segment and remote is self._remote and self._room:
            self._room -= 1
            self._batch.append(data)
        else:
            self._join(remote, size, data)
        traffic.packets_sent += 1
        traffic.bytes_sent += size
        self.burst += 1
        return self.burst

    def _join(self, remote: SocketAddress, size: int, data: bytes) -> None:
        """Put the datagram into the batch, or begin another: all of one size, only the last may be shorter."""
        if self._batch:
            fits = 0 < size <= self._segment and remote == self._remote and self._room > 0
            if fits:
                self._room -= 1
                self._batch.append(data)
            if not fits or size < self._segment:
                self._send_batch()
            if fits:
                return
        if self._waiting or not 0 < size <= self._largest_segment:  # an empty one would vanish in a batch
            self._send_one(remote, data)
            return
        self._batch.append(data)
        self._segment = size
        self._remote = remote
        self._room = min(_SEGMENTS, _SEGMENT_BYTES // size) - 1

    def _flush(self) -> None:
        self._joining = False
        self._bursty = self.burst > 2
        self.burst = 0
        if self._batch:
            self._send_batch()

    def _send_batch(self) -> None:
        batch, remote, size = self._batch, self._remote, self._segment
        self._batch, self._segment = [], 0
        if len(batch) > 1:
            control = [(socket.IPPROTO_UDP, _UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]
            try:
                self._sock.sendmsg(batch, control, 0, remote)
            except OSError as error:
                if error.errno in _NO_SEGMENTATION:
                    self._largest_segment = size - 1  # over the MTU, or no such thing here
            else:
                return
        for data in batch:
            self._send_one(remote, data)

    def _send_one(self, remote: SocketAddress, data: bytes) -> None:
        try:
            if not self._waiting:
                self._sock.sendto(data, remote)
                return
        except _WOULD_BLOCK:
            pass
        except OSError as error:
            self._lost(error)
            return
        self._wait(remote, data)

    def _wait(self, remote: SocketAddress, data: bytes) -> bool:
        """Keep a datagram until the kernel takes more."""
        if self._waiting_bytes >= self._send_limit:
            return False
        if not self._waiting:
            self._waiting = deque()
            self._loop.add_writer(self._sock.fileno(), self._write_waiting)
        self._waiting.append((remote, data))
        self._waiting_bytes += len(data)
        return True

    def _write_waiting(self) -> None:
        waiting = self._waiting
        assert waiting is not None
        self.burst = 0
        while waiting:
            remote, data = waiting[0]
            try:
                self._sock.sendto(data, remote)
            except _WOULD_BLOCK:
                break
            except OSError as error:
                self._lost(error)
                if not self.is_open:
                    return
            waiting.popleft()
            self._waiting_bytes -= len(data)
        if not waiting:
            self._loop.remove_writer(self._sock.fileno())
        if self._waiting_bytes <= self._send_limit // 4:
            self._handler.writable()

    def _lost(self, error: OSError) -> None:
        """A datagram is as if lost on the way, or an earlier one was, and it does not matter which."""

    def discard(self, remote: SocketAddress) -> None:
        """Forget what waits for ``remote``: nobody wants it there any more."""
        if self._batch and self._remote == remote:
            self._batch, self._segment = [], 0
        if self._waiting:
            self._waiting = deque(item for item in self._waiting if item[0] != remote)
            self._waiting_bytes = sum(len(data) for _, data in self._waiting)
            if not self._waiting:
                self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        if not self._joining:
            self.burst = 0
        if self._quiet:
            self._read_one()
            return
        packets: list[bytes] = []
        origin: SocketAddress = ("", 0)  # nobody's
        at_once = not (self._bursty or self._grouped)
        self._grouped = False
        count = 0
        problem: OSError | None = None
        while count < _READS_PER_WAKE:
            try:
                data, control, _, source = self._sock.recvmsg(_READ_BYTES, _CONTROL_BYTES)
            except _WOULD_BLOCK:
                break
            except OSError as error:  # ICMP's answer to an earlier datagram, reported once
                problem = error
                break
            count += 1
            if source != origin:
                if packets:
                    self._handler.datagrams_received(packets, origin, at_once=False)
                    if not self.is_open:
                        return
                packets, origin = [], source
            if control:
                at_once, self._grouped = False, True
                packets += _segments(data, control)
            else:
                packets.append(data)
        self._quiet = _QUIET_WAKES if count == 1 and len(packets) == 1 else 0
        if packets:
            self._handler.datagrams_received(packets, origin, at_once=at_once and problem is None)
        if problem is not None and self.is_open:
            self._lost(problem)

    def _read_one(self) -> None:
        """As `_read`, for a datagram that is probably alone."""
        try:
            data, control, _, source = self._sock.recvmsg(_READ_BYTES, _CONTROL_BYTES)
        except _WOULD_BLOCK:
            return
        except OSError as error:
            self._lost(error)
            return
        if control:
            self._quiet, self._grouped = 0, True
            self._handler.datagrams_received(_segments(data, control), source, at_once=False)
            return
        self._quiet -= 1
        if self._bursty or not self.deliver_one(data, source):
            self._handler.datagrams_received([data], source, at_once=not self._bursty)

    def close(self) -> None:
        """Send what was joined, then close."""
        if not self.is_open:
            return
        if self._batch:
            self._send_batch()
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._waiting = None
        self._sock.close()


def _segments(data: bytes, control: list[tuple[int, int, bytes]]) -> list[bytes]:
    """The datagrams that the kernel has joined: all of one size, only the last may be shorter."""
    size = int.from_bytes(control[0][2], sys.byteorder)
    return [data[start : start + size] for start in range(0, len(data), size)]


class ConnectedHandler(DatagramHandler, Protocol):
    """Who owns a `ConnectedSocket`."""

    def datagram_refused(self) -> None:
        """Nobody listens at the other end (ICMP port unreachable), says someone on the way."""


class ConnectedSocket(DatagramSocket):
    """A UDP socket that hears of one remote address only."""

    __slots__ = ("_owner", "remote")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        remote: SocketAddress,
        send_limit: int,
        handler: ConnectedHandler,
    ) -> None:
        sock.connect(remote)
        super().__init__(loop, sock, host, send_limit, handler)
        self._owner = handler
        self.remote = remote

    def _lost(self, error: OSError) -> None:
        if error.errno == errno.ECONNREFUSED:
            self._owner.datagram_refused()
