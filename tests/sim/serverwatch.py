"""What a simulated server observes of its clients: what RFC 6062 forbids them."""

from __future__ import annotations

from ice_tcp.stun import ErrorNumber, decode
from tests.sim.watch import TOLERANCE, PropertyError

_CONNECT = b"\x00\x0a"
_ANSWERS = (b"\x01\x0a", b"\x01\x1a")
_FAILED = ErrorNumber.CONNECTION_TIMEOUT_OR_FAILURE
WAIT_AFTER_447 = 10.0
"""Seconds until a client may ask for the same peer again (RFC 6062 s4.3)."""


class ConnectWatch:
    """Watches the Connect requests on control connections, each known by its number, and the answers."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._pending: dict[tuple[int, bytes], tuple[str, int]] = {}
        self._failed_at: dict[tuple[int, tuple[str, int]], float] = {}

    def asked(self, stream: int, message: bytes, now: float) -> None:
        """A client sent a message."""
        if message[:2] != _CONNECT:
            return
        peer, request = decode(message).xor_peer_address, (stream, message[8:20])
        if peer is None:
            return
        if any(other == peer and asker == stream for (asker, _), other in self._pending.items()):
            raise PropertyError(f"connect: two at once to {peer}, at {self._server}")
        since = now - self._failed_at.get((stream, peer), float("-inf"))
        if since < WAIT_AFTER_447 - TOLERANCE:
            raise PropertyError(f"connect: again to {peer} {since:.3f} s after {int(_FAILED)}, at {self._server}")
        self._pending[request] = peer

    def answered(self, stream: int, message: bytes, now: float) -> None:
        """The server sends a message."""
        if message[:2] not in _ANSWERS:
            return
        peer = self._pending.pop((stream, message[8:20]), None)
        error = decode(message).error_code if message[:2] != _ANSWERS[0] else None
        if peer is not None and error is not None and error.code == _FAILED:
            self._failed_at[stream, peer] = now
