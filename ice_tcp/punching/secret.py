"""Does the other end know the secret? A challenge and a response both ways, before the stream is handed out.

Each side sends a hello (16 bytes that name the protocol, 16 that name the sender, a nonce of 32), then
HMAC-SHA256(secret, label | sender's hello | receiver's hello). The response names both ends in their order, so it is
good for nothing else, and a hello that names ourselves is refused: nobody can have us answer our own challenge.

It proves who was there when the connection began, no more: the stream is neither encrypted nor protected against
someone on the path. And whoever is answered can try out secrets at leisure: take a long random one.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Final

from ice_tcp.errors import IceError

MIN_SECRET_BYTES: Final = 16

_NAME: Final = b"ice-tcp punch 1\n"
_LABEL: Final = b"ice-tcp punch 1 response\n"
_ID_BYTES: Final = 16
_NONCE_BYTES: Final = 32
_HELLO_BYTES: Final = len(_NAME) + _ID_BYTES + _NONCE_BYTES
_PROOF_BYTES: Final = 32
_TIMEOUT: Final = 5.0


class SecretError(IceError):
    """The other end does not know the secret, or speaks something else."""


def new_identity() -> bytes:
    """Names one side; the same on all its connections, which somebody might relay to each other."""
    return secrets.token_bytes(_ID_BYTES)


def checked_secret(secret: bytes) -> bytes:
    """Raises ValueError for a secret that is too short."""
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret has at least {MIN_SECRET_BYTES} bytes, not {len(secret)}")
    return secret


async def authenticate(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes, identity: bytes
) -> None:
    """Both ends show that they know the secret; then the stream is as if nothing had been sent on it.

    Raises SecretError and OSError.
    """
    ours = _NAME + identity + secrets.token_bytes(_NONCE_BYTES)
    writer.write(ours)
    try:
        async with asyncio.timeout(_TIMEOUT):
            theirs = await reader.readexactly(_HELLO_BYTES)
            if not theirs.startswith(_NAME):
                raise SecretError("the other end does not ask for a secret")
            if theirs[len(_NAME) : len(_NAME) + _ID_BYTES] == identity:
                raise SecretError("the other end is ourselves, or repeats what we say")
            writer.write(_proof(secret, ours, theirs))
            proof = await reader.readexactly(_PROOF_BYTES)
    except asyncio.IncompleteReadError:
        raise SecretError("the other end closed the connection") from None
    except TimeoutError:
        raise SecretError("the other end does not answer the challenge") from None
    if not hmac.compare_digest(proof, _proof(secret, theirs, ours)):
        raise SecretError("the other end does not know the secret")


def _proof(secret: bytes, sender: bytes, receiver: bytes) -> bytes:
    return hmac.digest(secret, _LABEL + sender + receiver, "sha256")
