"""Reliable, encrypted streams over any path of an agent: QUIC (RFC 9000) over its datagrams, on UDP or framed TCP.

Both sides make a `Certificate`, tell each other its fingerprint through signaling, and call `connect_quic` once the
agent is connected. Streams survive every change of path, since QUIC sees one peer and never an address. Needs aioquic,
the extra ``quic``; importing this package without it raises ImportError that says so.
"""

try:
    import aioquic  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError("QUIC needs aioquic: pip install 'ice-tcp[quic]'", name=error.name) from error

from ice_tcp.quic.certificate import Certificate
from ice_tcp.quic.session import (
    DatagramAgent,
    PeerCertificateError,
    QuicError,
    QuicSession,
    SessionClosedError,
    connect_quic,
)

__all__ = [
    "Certificate",
    "DatagramAgent",
    "PeerCertificateError",
    "QuicError",
    "QuicSession",
    "SessionClosedError",
    "connect_quic",
]
