"""Runs `ice_tcp.core.punching` on an event loop; its connections leave as plain sockets."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from ice_tcp.core.commands import Close, Connect, Failure, Listen, StreamId
from ice_tcp.core.punching import Connected, DialEnded, Listening, NotListening, PunchEvent, Punching
from ice_tcp.datapath import Received, StreamPath
from ice_tcp.net.asyncio_net import Network
from ice_tcp.net.listeners import Listener
from ice_tcp.net.sockets import NetworkError, bind_connector, prepare_stream
from ice_tcp.net.streams import PeerConnection

__all__ = ["Connected", "DialEnded", "Listening", "NotListening", "PunchEvent", "Puncher"]


class Puncher:
    """One local TCP port that listens and connects at once.

    Begin with `listen`. ``on_event`` hears what happens; for each Connected, `take` the socket at once. The rest is as
    in `Punching`.
    """

    def __init__(
        self, policy: Policy, *, rng: random.Random, any_port: bool, on_event: Callable[[PunchEvent], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._core = Punching(policy, rng=rng, any_port=any_port)
        self._network = Network(self._loop, rng, policy.limits.send_bytes)
        self._on_event = on_event
        self._listener: Listener | None = None
        self._attempts: dict[StreamId, _Attempt] = {}
        self._opened: dict[StreamId, socket.socket] = {}
        self._timer: asyncio.TimerHandle | None = None

    def listen(self, host: str, port: int) -> None:
        self._core.listen(host, port, time.monotonic())
        self._pump()

    def expect(self, peer: TransportAddress) -> None:
        self._core.expect(peer, time.monotonic())
        self._pump()

    def dial(self) -> None:
        self._core.dial(time.monotonic())
        self._pump()

    def close(self) -> None:
        """Close the port and all attempts, but not the connections that were taken."""
        self._core.close(time.monotonic())
        self._pump()

    def take(self, stream: StreamId) -> socket.socket:
        """The socket of a connection; it is the caller's from now on."""
        return self._opened.pop(stream)

    def open_sibling(self) -> socket.socket:
        """One more non-blocking socket on the port, to connect somewhere else with. Raises NetworkError."""
        assert self._listener is not None, "listen comes first"
        sock = bind_connector(self._listener.address.host, self._listener.sock)
        prepare_stream(sock)
        return sock

    # What the network tells

    def accepted(self, listener: Listener, sock: socket.socket, remote: TransportAddress) -> None:  # noqa: ARG002
        stream = self._core.stream_accepted(remote, time.monotonic())
        if stream is None:
            sock.close()
        else:
            prepare_stream(sock)
            self._opened[stream] = sock
        self._pump()

    def connected(self, stream: StreamId, connection: PeerConnection) -> None:
        del self._attempts[stream]
        self._opened[stream] = connection.detach()
        self._feed(self._core.stream_connected, stream, connection.local)

    def failed(self, stream: StreamId, failure: Failure) -> None:
        self._attempts.pop(stream, None)
        self._feed(self._core.stream_failed, stream, failure)

    def _feed(self, method: Callable[..., None], *args: object) -> None:
        """Call an input of the core, but not within the command that it answers: a refusal may come at once."""

        def call() -> None:
            method(*args, time.monotonic())
            self._pump()

        self._loop.call_soon(call)

    # The pump

    def _pump(self) -> None:
        while commands := self._core.commands():
            for command in commands:
                match command:
                    case Listen():
                        self._listen(command)
                    case Connect():
                        self._connect(command)
                    case Close(handle):
                        self._close(handle)
                    case _:
                        raise AssertionError(f"no {type(command).__name__} is asked for here")
        for event in self._core.events():
            self._on_event(event)
        self._arm()

    def _listen(self, command: Listen) -> None:
        now = time.monotonic()
        try:
            self._listener = self._network.listen(command.host, command.ports, self)
        except NetworkError as error:
            self._core.socket_failed(command.listener, error.failure, now)
        else:
            self._core.socket_opened(command.listener, self._listener.address, now)

    def _connect(self, command: Connect) -> None:
        attempt = _Attempt(self, command.stream)
        self._attempts[command.stream] = attempt
        try:
            attempt.connection = self._network.connect(
                command.host, command.remote, command.timeout, _no_frames(), attempt, listener=self._listener
            )
        except NetworkError as error:
            self.failed(command.stream, error.failure)

    def _close(self, handle: int) -> None:
        stream = StreamId(handle)
        if stream in self._attempts:
            self._attempts.pop(stream).connection.abort()
        elif stream in self._opened:
            self._opened.pop(stream).close()
        elif self._listener is not None:
            self._listener.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self._core.next_timer()
        delay = None if at is None else at - time.monotonic()
        self._timer = None if delay is None else self._loop.call_later(max(0.0, delay), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._core.timer_expired(time.monotonic())
        self._pump()


class _Attempt:
    """A connection from its SYN on until it is open: then its socket leaves."""

    connection: PeerConnection

    def __init__(self, puncher: Puncher, stream: StreamId) -> None:
        self._puncher = puncher
        self._stream = stream

    def stream_connected(self, connection: PeerConnection) -> None:
        self._puncher.connected(self._stream, connection)

    def stream_failed(self, connection: PeerConnection, failure: Failure) -> None:  # noqa: ARG002
        self._puncher.failed(self._stream, failure)

    def stream_received(self, connection: PeerConnection, received: Received) -> None: ...
    def stream_closed(self, connection: PeerConnection) -> None: ...
    def stream_writable(self, connection: PeerConnection) -> None: ...
    def stream_gone(self, connection: PeerConnection) -> None: ...


def _no_frames() -> StreamPath:
    """What a connection wants for its frames; it is detached before there are any."""
    return StreamPath(early_limit=0, send_limit=0)
