"""A TCP connection or attempt of an agent in the simulated world: socket, data path, and cuts at every place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure, StreamId, TcpPath
from ice_tcp.datapath import StreamPath
from tests.sim.clock import Timer
from tests.sim.intake import Intake
from tests.sim.tcp import TcpSocket

if TYPE_CHECKING:
    from tests.sim.shell import SimShell

STUN_WINDOW = 64 * 1024
"""Bytes read from a stream for a full application after each STUN message sent: the answer is among them."""


class FrameCuts:
    """Follows the frames of a byte stream to tell where its chunks were cut."""

    def __init__(self) -> None:
        self._header = b""
        self._missing = 0

    def feed(self, chunk: bytes) -> str | None:
        """Where the chunk ends: "length" inside a length field, "body" right after one, None elsewhere."""
        position = 0
        while position < len(chunk):
            if self._missing:
                step = min(self._missing, len(chunk) - position)
                self._missing -= step
                position += step
            else:
                self._header += chunk[position : position + 1]
                position += 1
                if len(self._header) == 2:
                    self._missing = int.from_bytes(self._header, "big")
                    self._header = b""
                    if self._missing and position == len(chunk):
                        return "body"
        return "length" if self._header else None


class SimStream:
    """Owns one TCP socket on behalf of a shell (a TcpOwner)."""

    def __init__(self, shell: SimShell, handle: StreamId, component: int, *, dialled: bool) -> None:
        self.shell = shell
        self.handle = handle
        self.component = component
        self.dialled = dialled
        self.connected = not dialled
        self.deadline: Timer | None = None
        limits = shell.policy.limits
        self.path = StreamPath(early_limit=limits.early_bytes, send_limit=limits.send_bytes)
        self._cuts = FrameCuts()
        self._intake = Intake(shell, self.take, self._ended)
        self._asked = False
        self._window = 0

    @property
    def socket(self) -> TcpSocket | None:
        return self._intake.socket

    @socket.setter
    def socket(self, socket: TcpSocket) -> None:
        self._intake.socket = socket

    # -- the socket's calls ------------------------------------------------------------------------------------

    def tcp_connected(self) -> None:
        socket = self.socket
        assert socket is not None
        self._over()
        if socket.local == socket.remote:
            self.shell.world.events["self-connect"] += 1
            socket.abandon()
            self._gone(Failure.SELF_CONNECT)
            return
        self.connected = True
        if socket.crossed:
            self.shell.world.events["crossing-syns"] += 1
        local = TransportAddress(*socket.local)
        self.shell.input(lambda now: self.shell.agent.stream_connected(self.handle, local, now))
        if not self._intake.stopped:
            self.pump()

    def tcp_readable(self) -> None:
        self._intake.wake()

    def tcp_writable(self) -> None:
        self.pump()
        if self.shell.application is not None and not self._intake.stopped:
            self.shell.application.writable(self.component)

    def tcp_failed(self, failure: Failure) -> None:
        if self._intake.stopped:
            return
        self._over()
        if not self.connected and failure is Failure.RESET:
            failure = Failure.REFUSED
        self._gone(failure)

    def timed_out(self) -> None:
        """The attempt's deadline passed."""
        if self.socket is not None:
            self.socket.abandon()
        self._gone(Failure.TIMED_OUT)

    def _over(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.shell.watch.attempt_over(self.handle)

    def _gone(self, failure: Failure) -> None:
        self._intake.stopped = True
        self.shell.streams.pop(self.handle, None)
        self.shell.stream_gone(self)
        self.shell.input(lambda now: self.shell.agent.stream_failed(self.handle, failure, now))

    # -- reading -----------------------------------------------------------------------------------------------

    def _ended(self) -> None:
        """The peer closed the connection."""
        shell, socket = self.shell, self.socket
        assert socket is not None
        shell.streams.pop(self.handle, None)
        socket.close()
        shell.stream_gone(self)
        shell.input(lambda now: shell.agent.stream_closed(self.handle, now))

    def take(self, chunk: bytes) -> None:
        """Bytes of the peer."""
        shell = self.shell
        if (cut := self._cuts.feed(chunk)) is not None:
            shell.world.events[f"cut-{cut}"] += 1
        received = self.path.receive(chunk)
        self.deliver(received.data)
        for message in received.stun:
            self._give(message)
        fault = self.path.fault
        if fault is not None and not self._intake.stopped:
            failure = Failure(fault.value)
            shell.input(lambda now: shell.agent.stream_failed(self.handle, failure, now))

    def deliver(self, messages: list[bytes]) -> None:
        """Data for the application; where that is full, little more is read than STUN may hide behind."""
        shell, application = self.shell, self.shell.application
        for data in messages:
            shell.deliver(self.component, TcpPath(self.handle), data)
        if messages and application is not None and application.is_full(self.component):
            self._window -= sum(map(len, messages))
            self._intake.paused = self._window <= 0 or application.is_overfull(self.component)

    def resume(self) -> None:
        """The application has read."""
        self._intake.paused = False
        self._intake.wake()

    def _give(self, message: bytes) -> None:
        self.shell.input(lambda now: self.shell.agent.stream_received(self.handle, message, now))

    # -- writing -----------------------------------------------------------------------------------------------

    def send_stun(self, message: bytes) -> None:
        """Queue and write a STUN message; an eager application's data follows the first one at once."""
        first = self.dialled and not self._asked
        self._asked = True
        self.path.send_stun(message)
        application = self.shell.application
        if application is not None:
            if first:
                application.stream_opened(self.component, self.handle)
            if application.is_full(self.component) and not application.is_overfull(self.component):
                self._window = STUN_WINDOW
                self.resume()
        self.pump()

    def pump(self) -> None:
        """Write what waits, as far as the socket takes it."""
        socket = self.socket
        if socket is None or not self.connected:
            return
        while self.path.pending and socket.room:
            data = b"".join(self.path.take())
            self.path.written(socket.write(data[: socket.room]))

    def close(self) -> None:
        """Close after what was asked before has been sent as far as possible."""
        self._intake.stopped = True
        if self.deadline is not None:
            self.deadline.cancel()
        if self.socket is not None:
            self.pump()
            self.socket.close()

    def abandon(self) -> None:
        """Be gone without a word."""
        self._intake.stopped = True
        if self.deadline is not None:
            self.deadline.cancel()
        if self.socket is not None:
            self.socket.abandon()
