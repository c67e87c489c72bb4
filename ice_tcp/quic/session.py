"""One QUIC connection over an agent's datagrams."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Protocol, Self

from aioquic.quic.connection import stream_is_unidirectional
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import AlertDescription

from ice_tcp.errors import IceError, NoPathError
from ice_tcp.quic.certificate import Certificate, checked_fingerprint, fingerprint_of, matches
from ice_tcp.quic.connection import PinnedConnection, original_destination
from ice_tcp.quic.stream import QuicStreamTransport

_PEER: Final = ("ice", 0)
"""The one address that QUIC ever sees: which path the agent takes is none of its business."""
_BURST: Final = 64
"""Datagrams taken in a row before the loop gets its turn."""
_OUTAGE_RETRY_INTERVAL: Final = 0.05
"""Seconds between attempts to send while the agent has no path; QUIC's own clock stands still meanwhile."""
_BAD_CERTIFICATE: Final = QuicErrorCode.CRYPTO_ERROR + AlertDescription.bad_certificate


class QuicError(IceError):
    """The session could not be made, or has ended."""


class PeerCertificateError(QuicError):
    """The peer's certificate is not the one that signaling named: somebody is in between, or signaling is mixed up."""


class SessionClosedError(QuicError):
    """The peer closed the session, without an error."""


class DatagramAgent(Protocol):
    """What a session needs of an agent; see `ice_tcp.Agent`."""

    async def send(self, data: bytes, component: int = 1) -> None: ...
    def send_nowait(self, data: bytes, component: int = 1) -> bool: ...
    async def recv(self, component: int = 1) -> bytes: ...


async def connect_quic(
    agent: DatagramAgent,
    *,
    is_client: bool,
    certificate: Certificate,
    peer_fingerprint: str,
    component: int = 1,
    handshake_timeout: float = 15.0,
) -> QuicSession:
    """Make a QUIC connection with the peer, once the agent is connected; the peer does the same.

    Exactly one side is the client, for instance the controlling one. Both sides show their certificates; a session
    is only returned, and bytes of the peer are only read, if the peer's has ``peer_fingerprint`` (SHA-256, RFC 8122
    s5, through signaling). From now on the session owns ``recv`` of the component. Use it with ``async with``.

    Raises ValueError for a malformed fingerprint, PeerCertificateError for the wrong certificate, QuicError if the peer
    refuses or ``handshake_timeout`` seconds pass, and what the agent raises if it fails.
    """
    session = QuicSession(agent, is_client, certificate, checked_fingerprint(peer_fingerprint), component)
    try:
        async with asyncio.timeout(handshake_timeout):
            await session.wait_connected()
    except TimeoutError:
        await session.close()
        raise QuicError(f"the peer did not complete the QUIC handshake within {handshake_timeout:g} s") from None
    except BaseException:
        await session.close()
        raise
    return session


class QuicSession:
    """Streams between two agents; made by `connect_quic`. Closing it leaves the agent open."""

    def __init__(
        self, agent: DatagramAgent, is_client: bool, certificate: Certificate, peer_fingerprint: str, component: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._agent = agent
        self._component = component
        self._certificate = certificate
        self._peer_fingerprint = peer_fingerprint
        self._quic: PinnedConnection | None = None
        self._streams: dict[int, QuicStreamTransport] = {}
        self._accepted: asyncio.Queue[QuicStreamTransport | None] = asyncio.Queue()
        self._backlog: deque[bytes] = deque()
        self._flushing: asyncio.Task[None] | None = None
        self._transmitting: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._is_verified = False
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._error: ConnectionError | None = None
        if is_client:
            self._quic = PinnedConnection(certificate)
            self._quic.connect(_PEER, now=self._loop.time())
            self.transmit_soon()
        self._receiving = self._loop.create_task(self._receive())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_connected(self) -> None:
        """Return when both sides have accepted each other's certificate; `connect_quic` does it. Raises as that."""
        await asyncio.shield(self._connected)

    async def open_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bidirectional stream; the peer's `accept_stream` sees it with its first byte, or its end.

        ``drain`` waits for the peer to read; ``write_eof`` ends one direction. ``writer.close()`` ends both, and
        ``wait_closed`` returns when the peer has everything: await it before `close`. Raises QuicError.
        """
        if self._error is not None:
            raise self._error
        stream_id = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(stream_id, b"")  # takes the number
        stream = self._add_stream(stream_id)
        return stream.reader, stream.writer

    async def accept_stream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the next stream that the peer opened. Raises QuicError, or what ended the agent."""
        stream = await self._accepted.get()
        if stream is None:
            self._accepted.put_nowait(None)  # for whoever else waits
            raise self._error or QuicError("the session is closed")
        return stream.reader, stream.writer

    async def close(self) -> None:
        """End the session and tell the peer; what is not delivered on streams is lost."""
        if self._quic is not None and self._error is None:
            self._quic.close()
            self._send_last()
        self._end(QuicError("the session is closed"))
        tasks = [task for task in (self._receiving, self._flushing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What streams need

    @property
    def quic(self) -> PinnedConnection:
        assert self._quic is not None, "streams exist only after the handshake"
        return self._quic

    def transmit_soon(self) -> None:
        """Send at the end of this turn of the loop, so that what belongs together shares packets."""
        if self._transmitting is None and self._error is None:
            self._transmitting = self._loop.call_soon(self._transmit)

    # In

    async def _receive(self) -> None:
        taken = 0
        try:
            while True:
                self._take(await self._agent.recv(self._component))
                taken += 1
                if taken % _BURST == 0:
                    await asyncio.sleep(0)
        except IceError as error:
            self._end(error)
        finally:
            self._end(QuicError("the session does not read any more"))

    def _take(self, datagram: bytes) -> None:
        quic = self._quic
        if quic is None:
            destination = original_destination(datagram)
            if destination is None:
                return
            quic = self._quic = PinnedConnection(self._certificate, destination)
        quic.receive_datagram(datagram, _PEER, now=self._loop.time())
        self._handle_events(quic)
        self.transmit_soon()

    def _handle_events(self, quic: PinnedConnection) -> None:
        while self._error is None and (event := quic.next_event()) is not None:
            self._handle(quic, event)
        if self._is_verified and quic.is_confirmed and not self._connected.done():
            self._connected.set_result(None)

    def _handle(self, quic: PinnedConnection, event: QuicEvent) -> None:
        match event:
            case HandshakeCompleted():
                self._verify(quic)
            case StreamDataReceived(data=data, end_stream=end, stream_id=stream_id):
                if stream_is_unidirectional(stream_id):
                    quic.stop_stream(stream_id, QuicErrorCode.NO_ERROR)
                else:
                    self._stream(stream_id).received(data, end)
            case StreamReset(stream_id=stream_id) if not stream_is_unidirectional(stream_id):
                self._stream(stream_id).reset()
            case StopSendingReceived(stream_id=stream_id) if not stream_is_unidirectional(stream_id):
                self._stream(stream_id).refused()
            case ConnectionTerminated(error_code=code, reason_phrase=reason):
                self._end(_termination(code, reason))

    def _verify(self, quic: PinnedConnection) -> None:
        certificate = quic.peer_certificate
        if certificate is not None and matches(certificate, self._peer_fingerprint):
            self._is_verified = True
            return
        shown = fingerprint_of(certificate) if certificate is not None else "no certificate"
        quic.close(_BAD_CERTIFICATE, QuicFrameType.CRYPTO, "the certificate is not the one that signaling named")
        self._send_last()
        self._end(PeerCertificateError(f"the peer shows {shown}, signaling named {self._peer_fingerprint}"))

    def _stream(self, stream_id: int) -> QuicStreamTransport:
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._add_stream(stream_id)
            self._accepted.put_nowait(stream)
        return stream

    def _add_stream(self, stream_id: int) -> QuicStreamTransport:
        stream = self._streams[stream_id] = QuicStreamTransport(self, stream_id)
        return stream

    # Out

    def _transmit(self) -> None:
        self._transmitting = None
        if self._quic is None or self._error is not None or self._flushing is not None:
            return
        self._backlog += [data for data, _ in self._quic.datagrams_to_send(now=self._loop.time())]
        self._flush()
        self._arm(self._quic.get_timer())
        for stream_id, stream in list(self._streams.items()):
            if stream.sent():
                del self._streams[stream_id]

    def _send_last(self) -> None:
        """Say why the connection is closed, instead of what still waits."""
        self._backlog.clear()
        if self._quic is not None:
            self._backlog += [data for data, _ in self._quic.datagrams_to_send(now=self._loop.time())]
            self._flush()

    def _flush(self) -> None:
        try:
            while self._backlog and self._agent.send_nowait(self._backlog[0], self._component):
                self._backlog.popleft()
        except NoPathError:
            pass  # there will be one again, or the agent fails
        except IceError as error:
            self._end(error)
        if self._backlog and self._flushing is None:
            self._flushing = self._loop.create_task(self._flush_slowly())

    async def _flush_slowly(self) -> None:
        while self._backlog:
            datagram = self._backlog[0]
            try:
                await self._agent.send(datagram, self._component)
            except NoPathError:
                await asyncio.sleep(_OUTAGE_RETRY_INTERVAL)
            except IceError as error:
                self._end(error)
            else:
                if self._backlog and self._backlog[0] is datagram:
                    self._backlog.popleft()
        self._flushing = None
        self.transmit_soon()

    # Time

    def _arm(self, at: float | None) -> None:
        if self._error is not None:
            at = None
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire, at) if at is not None else None

    def _expire(self, at: float) -> None:
        self._timer = self._timer_at = None
        # While nothing can leave, nothing is lost: the timers go on after the backlog.
        if self._quic is not None and self._error is None and self._flushing is None:
            self._quic.handle_timer(now=max(at, self._loop.time()))
            self._handle_events(self._quic)
            self._transmit()

    # The end

    def _end(self, error: ConnectionError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._arm(None)
        self._backlog.clear()
        if not self._connected.done():
            self._connected.set_exception(error)
            self._connected.exception()  # it is also raised by whatever is called next
        for stream in self._streams.values():
            stream.lost(error)
        self._streams.clear()
        self._accepted.put_nowait(None)


def _termination(code: int, reason: str) -> QuicError:
    if code == _BAD_CERTIFICATE:
        return PeerCertificateError("the peer refused our certificate: signaling told it another fingerprint")
    if code == QuicErrorCode.NO_ERROR:
        return SessionClosedError("the peer closed the session")
    return QuicError(f"QUIC error 0x{code:x}: {reason or 'no reason was given'}")
