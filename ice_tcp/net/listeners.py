"""Listening TCP sockets on an asyncio event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure
from ice_tcp.net.sockets import LEASES, failure_of, transport_address

_ACCEPTS_PER_WAKE = 16
_ACCEPT_PAUSE = 0.1
"""Seconds without accepting when the process has no descriptor left; the connections wait in the kernel."""

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class ListenerHandler(Protocol):
    """Who owns a `Listener`."""

    def accepted(self, listener: Listener, sock: socket.socket, remote: TransportAddress) -> None:
        """A connection came: make a `Connection` of ``sock``, or close it."""


class Listener:
    """A listening TCP socket; connectors may share its port."""

    __slots__ = ("_handler", "_lease", "_loop", "_pause", "address", "sock")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, host: str, handler: ListenerHandler
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._pause: asyncio.TimerHandle | None = None
        self.sock = sock
        self.address = TransportAddress(host, sock.getsockname()[1])
        self._lease = (host, self.address.port)
        LEASES.take(*self._lease)
        self._listen()

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self.sock.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_WAKE):
            try:
                sock, address = self.sock.accept()
            except _WOULD_BLOCK:
                return
            except OSError as error:
                if failure_of(error.errno) is Failure.NO_RESOURCES:
                    # The socket stays readable: watching it on would be a busy loop.
                    self._loop.remove_reader(self.sock.fileno())
                    self._pause = self._loop.call_later(_ACCEPT_PAUSE, self._listen)
                    return
                continue  # that connection ended before we took it
            self._handler.accepted(self, sock, transport_address(address))
            if self.sock.fileno() < 0:
                return

    def close(self) -> None:
        if self.sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self.sock.fileno())
        self.sock.close()
        LEASES.release(*self._lease)
