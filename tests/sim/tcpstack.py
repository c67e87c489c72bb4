"""The TCP of one simulated host: who gets a segment."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.clock import Clock
from tests.sim.nat import answer_rst
from tests.sim.packets import Endpoint, Segment
from tests.sim.tcp import LINEAR_SYN_SCHEDULE, TcpOwner, TcpSocket, TcpState


class Listener:
    """A listening socket; ``on_accept`` gets each connection once it is established."""

    def __init__(self, local: Endpoint, on_accept: Callable[[TcpSocket], None]) -> None:
        self.local = local
        self.on_accept = on_accept


class AddressTakenError(Exception):
    """EADDRNOTAVAIL: the 4-tuple exists already."""


class TcpStack:
    """The TCP of one host: listeners, connections by 4-tuple, and RSTs for everything else."""

    def __init__(
        self,
        clock: Clock,
        isn: Callable[[], int],
        transmit: Callable[[TcpSocket | None, Endpoint, Endpoint, Segment], None],
        syn_schedule: tuple[float, ...] = LINEAR_SYN_SCHEDULE,
    ) -> None:
        self.syn_schedule = syn_schedule
        self.crossings = 0
        self.listeners: dict[Endpoint, Listener] = {}
        self.connections: dict[tuple[Endpoint, Endpoint], TcpSocket] = {}
        self._clock = clock
        self._isn = isn
        self._transmit = transmit

    def listen(self, local: Endpoint, on_accept: Callable[[TcpSocket], None]) -> Listener:
        """Listen on ``local``; connections may leave from the same port."""
        listener = self.listeners[local] = Listener(local, on_accept)
        return listener

    def stop_listening(self, listener: Listener) -> None:
        """Close a listener; its half-open connections are forgotten, its established ones stay."""
        self.listeners.pop(listener.local, None)
        for socket in [s for s in self.connections.values() if s.local == listener.local and s.accepted is not None]:
            socket.abandon()

    def connect(self, local: Endpoint, remote: Endpoint, owner: TcpOwner) -> TcpSocket:
        """Start to connect.

        Raises AddressTakenError where the 4-tuple exists, be it pending, established or half-open on a listener.
        """
        old = self.connections.get((local, remote))
        if old is not None:
            if old.state is not TcpState.TIME_WAIT:
                raise AddressTakenError
            old.abandon()
        socket = self._make(local, remote)
        socket.owner = owner
        # The SYN leaves after the caller returned: its owner knows its socket by then.
        self._clock.after(0.0, lambda: self._start(socket))
        return socket

    def _start(self, socket: TcpSocket) -> None:
        if socket.owner is not None:
            socket.connect(self.syn_schedule)

    def _make(self, local: Endpoint, remote: Endpoint) -> TcpSocket:
        socket = TcpSocket(self._clock, local, remote, self._isn(), transmit=self._send, forget=self._forget)
        self.connections[local, remote] = socket
        return socket

    def _send(self, socket: TcpSocket, segment: Segment) -> None:
        self._transmit(socket, socket.local, socket.remote, segment)

    def _forget(self, socket: TcpSocket) -> None:
        if self.connections.get((socket.local, socket.remote)) is socket:
            del self.connections[socket.local, socket.remote]

    def receive(self, local: Endpoint, remote: Endpoint, segment: Segment) -> None:
        """A segment came from ``remote`` for ``local``."""
        bare_syn = segment.syn and segment.ack is None
        socket = self.connections.get((local, remote))
        if socket is not None and socket.state is TcpState.TIME_WAIT and bare_syn:
            socket.abandon()
            socket = None
        if socket is not None:
            crossed = socket.crossed
            socket.receive(segment)
            self.crossings += socket.crossed and not crossed
            return
        listener = self.listeners.get(local)
        if bare_syn and listener is not None:
            socket = self._make(local, remote)
            socket.accepted = listener.on_accept
            socket.answer(segment)
        elif not segment.rst:
            self._transmit(None, local, remote, answer_rst(segment))
