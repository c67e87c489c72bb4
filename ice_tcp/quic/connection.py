"""aioquic's connection, with what it has no settings for: client certificates, and flow control that heeds the reader.

Everything that reaches into aioquic is here. It names a handful of its internals; `_INTERNALS` makes a version that
has moved them fail at import, loudly, instead of leaving a check or a bound out.
"""

from __future__ import annotations

import ssl
from typing import Final

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, pull_quic_header
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Context
from cryptography import x509

from ice_tcp.quic.certificate import Certificate

STREAM_WINDOW: Final = 1 << 20
"""Bytes that the peer may send on one stream before we have read them."""
CONNECTION_WINDOW: Final = 4 << 20
"""Bytes that the peer may send on all streams together before we have read them."""
MAX_DATAGRAM_SIZE: Final = 1200
"""Bytes; the least that a QUIC path carries (RFC 9000 s14), so no path and no relay is too narrow."""

_ALPN: Final = "ice-tcp"
_CONNECTION_ID_LENGTH: Final = 8
_IDLE_TIMEOUT: Final = 86400.0
"""Seconds. Consent (RFC 7675) decides whether the peer is there, QUIC need not ask again."""

_INTERNALS: Final = (
    (QuicConnection, ("_initialize", "_write_connection_limits", "_write_stream_limits")),
    (Context, ("_server_handle_certificate", "_set_peer_certificate")),
)
for _owner, _names in _INTERNALS:
    for _name in _names:
        if not hasattr(_owner, _name):
            raise ImportError(f"this version of aioquic has no {_owner.__name__}.{_name}; ice_tcp.quic needs it")


class PinnedConnection(QuicConnection):
    """A QUIC connection in which both sides show certificates, and the peer sends no more than the reader takes."""

    tls: Context

    def __init__(self, certificate: Certificate, original_destination: bytes | None = None) -> None:
        """A server if ``original_destination``, the connection id in the client's first datagram, is given."""
        super().__init__(
            configuration=QuicConfiguration(
                alpn_protocols=[_ALPN],
                certificate=certificate.x509,
                connection_id_length=_CONNECTION_ID_LENGTH,
                idle_timeout=_IDLE_TIMEOUT,
                is_client=original_destination is None,
                max_data=CONNECTION_WINDOW,
                max_datagram_size=MAX_DATAGRAM_SIZE,
                max_stream_data=STREAM_WINDOW,
                private_key=certificate.private_key,
                # No authority signed the peer's certificate; the session compares its fingerprint.
                verify_mode=ssl.CERT_NONE,
            ),
            original_destination_connection_id=original_destination,
        )
        self._held: dict[int, int] = {}

    @property
    def is_confirmed(self) -> bool:
        """Whether the server has accepted the client's certificate, too (RFC 9001 s4.1.2)."""
        return self._handshake_confirmed

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        """What the peer showed, and proved to have the key of; None if nothing."""
        return self.tls._peer_certificate  # noqa: SLF001 - aioquic does not tell it in another way

    def unsent(self, stream_id: int, written: int) -> int:
        """Bytes of the ``written`` ones on a stream that no packet has carried yet."""
        stream = self._streams.get(stream_id)
        return written - stream.sender.highest_offset if stream is not None else 0

    def is_sent(self, stream_id: int) -> bool:
        """Whether the peer has acknowledged the end of a stream, or its reset."""
        stream = self._streams.get(stream_id)
        return stream is None or stream.sender.is_finished

    def hold(self, stream_id: int) -> None:
        """The application does not read: give the stream no more credit."""
        self._held.setdefault(stream_id, 0)

    def release(self, stream_id: int) -> None:
        """The application reads again."""
        self._held.pop(stream_id, None)

    def count(self, stream_id: int, size: int) -> None:
        """So many bytes of a stream came; those of a held one wait."""
        if stream_id in self._held:
            self._held[stream_id] += size

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls._request_client_certificate = True  # noqa: SLF001 - aioquic has no public setting for it

    # aioquic doubles a limit once half of it is used, read or not, so that a slow reader bounds nothing. It is shown
    # that nothing is used, and the limit is ours.

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        limit = self._local_max_data
        used = limit.used
        credit = used - sum(self._held.values()) + CONNECTION_WINDOW
        if credit - limit.value >= CONNECTION_WINDOW // 2:
            limit.value = credit
        limit.used = 0
        try:
            super()._write_connection_limits(builder, space)
        finally:
            limit.used = used

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        receiver = stream.receiver
        received = receiver.highest_offset
        credit = received + STREAM_WINDOW
        limit = stream.max_stream_data_local
        # A stream that we only send on has no limit to raise, and a held one waits for its reader.
        if limit and stream.stream_id not in self._held and credit - limit >= STREAM_WINDOW // 2:
            stream.max_stream_data_local = credit
        receiver.highest_offset = 0
        try:
            super()._write_stream_limits(builder, space, stream)
        finally:
            receiver.highest_offset = received


def original_destination(datagram: bytes) -> bytes | None:
    """The connection id that a client's first datagram is addressed to; None if it is something else."""
    try:
        header = pull_quic_header(Buffer(data=datagram), host_cid_length=_CONNECTION_ID_LENGTH)
    except ValueError:
        return None
    return header.destination_cid if header.packet_type is QuicPacketType.INITIAL else None
