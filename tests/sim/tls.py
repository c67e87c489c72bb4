"""What TLS is in the simulated world: a flight each way before the first byte, and a name on the certificate."""

from __future__ import annotations

_CLIENT_HELLO = b"\x16\x03\x01\x00\x20simulated client hello"
_SERVER_HELLO = b"\x16\x03\x03\x00"


class Hello:
    """The server's part of a handshake; ``name`` is on its certificate, in up to 255 bytes."""

    def __init__(self, name: str) -> None:
        self.done = False
        self.failed = False
        self._name = name
        self._received = b""

    def take(self, chunk: bytes) -> tuple[bytes, bytes]:
        """Bytes of the client: what to answer, and what is behind the handshake."""
        self._received += chunk
        size = len(_CLIENT_HELLO)
        self.failed = not (self._received.startswith(_CLIENT_HELLO) or _CLIENT_HELLO.startswith(self._received))
        if self.failed or len(self._received) < size:
            return b"", b""
        self.done = True
        name = self._name.encode()
        return _SERVER_HELLO + bytes((len(name),)) + name, self._received[size:]


class Handshake:
    """The client's part: send ``first``, then feed `take` until ``name``, the certificate's, is known."""

    first = _CLIENT_HELLO

    def __init__(self) -> None:
        self.name: str | None = None
        self.failed = False
        self._received = b""

    def take(self, chunk: bytes) -> bytes:
        """Bytes of the server: what is behind the handshake."""
        self._received += chunk
        received, size = self._received, len(_SERVER_HELLO)
        self.failed = not (received.startswith(_SERVER_HELLO) or _SERVER_HELLO.startswith(received))
        end = size + 1 + received[size] if len(received) > size else len(received) + 1
        if self.failed or len(received) < end:
            return b""
        self.name = received[size + 1 : end].decode()
        return received[end:]
