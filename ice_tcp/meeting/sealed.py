"""A channel that nobody on the way can read, change or join: keys from a short secret, by SPAKE2 (RFC 9382).

Both sides tell their SPAKE2 element, then a confirmation of the key, and then messages, each sealed by
ChaCha20-Poly1305 (RFC 8439) with a counter as the nonce. A side that does not know the secret fails at the
confirmation, and learns nothing that it could guess with afterwards.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any, Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from ice_tcp.errors import IceError
from ice_tcp.signaling.messages import Message, MessageError, decode, encode

_KEY_BYTES: Final = 32
_ELEMENT_BYTES: Final = 33
_NONCE_BYTES: Final = 12
_PROTOCOL: Final = b"ice-tcp meeting 1"
_SIDES: Final = (b"listen", b"connect")


class MeetingError(IceError, ConnectionError):
    """The two did not come together, or were parted: the other side is gone, or does not keep to the rules."""


class WrongCodeError(MeetingError):
    """The other side has another secret: a code was mistyped, or somebody guessed."""


class TamperedError(MeetingError):
    """What came is not what the other side sent."""


class TextLine(Protocol):
    """Carries texts to the other side and back, in order; None comes when it is gone. See `ice_tcp.rendezvous.Line`."""

    async def send(self, text: str) -> None: ...
    async def receive(self) -> str | None: ...


class SealedChannel:
    """Messages between two who know the same secret; `agree` makes one. It offers what `ice_tcp.signaling` needs."""

    def __init__(self, line: TextLine, sending_key: bytes, receiving_key: bytes) -> None:
        self._line = line
        self._sealing, self._opening = ChaCha20Poly1305(sending_key), ChaCha20Poly1305(receiving_key)
        self._sent = self._received = 0

    @classmethod
    async def agree(cls, line: TextLine, secret: str, *, listens: bool, context: str = "") -> Self:
        """Agree on keys; exactly one side ``listens``. ``context`` is what both know besides, such as the mailbox.

        Raises WrongCodeError, MeetingError.
        """
        mine, theirs = _SIDES if listens else reversed(_SIDES)
        exchange = (SPAKE2_A if listens else SPAKE2_B)(
            _PROTOCOL + context.encode() + b"\0" + secret.encode(), idA=_SIDES[0], idB=_SIDES[1]
        )
        await line.send(_text(exchange.start()))
        key = _finished(exchange, await _bytes(line))
        await line.send(_text(_confirmation(key, mine)))
        if not hmac.compare_digest(await _bytes(line), _confirmation(key, theirs)):
            raise WrongCodeError("the other side has another code; this one is used up")
        return cls(line, _derived(key, b"from " + mine), _derived(key, b"from " + theirs))

    async def send(self, message: Message) -> None:
        """Raises ValueError for a message that is too large for the line, and what the line raises."""
        sealed = self._sealing.encrypt(_nonce(self._sent), encode(message).encode(), None)
        self._sent += 1
        await self._line.send(_text(sealed))

    async def receive(self) -> Message:
        """The next message. Raises TamperedError, MeetingError if the other side is gone, and what the line raises."""
        sealed = await _bytes(self._line)
        try:
            text = self._opening.decrypt(_nonce(self._received), sealed, None)
        except InvalidTag:
            raise TamperedError("a message was changed, left out or repeated on its way") from None
        self._received += 1
        try:
            return decode(text)
        except MessageError as error:
            raise MeetingError(f"the other side sent something else than a message: {error}") from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()


def _finished(exchange: Any, element: bytes) -> bytes:
    if len(element) != _ELEMENT_BYTES:
        raise MeetingError("the other side does not speak this protocol")
    try:
        key: bytes = exchange.finish(element)
    except (SPAKEError, NotOnCurve, ValueError):
        raise MeetingError("the other side's part of the key agreement is malformed") from None
    return key


def _confirmation(key: bytes, side: bytes) -> bytes:
    return hmac.digest(_derived(key, b"confirm " + side), _PROTOCOL, "sha256")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_PROTOCOL + b" " + purpose).derive(key)


def _nonce(count: int) -> bytes:
    return count.to_bytes(_NONCE_BYTES, "big")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _bytes(line: TextLine) -> bytes:
    text = await line.receive()
    if text is None:
        raise MeetingError("the other side is gone")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise TamperedError("what came is no message") from None
