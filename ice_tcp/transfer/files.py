"""One file over one stream, its SHA-256 compared at both ends.

On the wire: the length of the offer (2 bytes, big endian) and the offer, JSON with ``name`` and ``size``; the bytes;
the sender's SHA-256 of them. Then the receiver answers with the SHA-256 of what it got.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

CHUNK_BYTES: Final = 128 * 1024
"""Read, hashed and written at a time."""
MAX_NAME_CHARACTERS: Final = 255

_LENGTH: Final = struct.Struct("!H")
_MAX_OFFER_BYTES: Final = 4096
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


class TransferError(ConnectionError):
    """The file did not arrive as it was sent, or the other end does not keep to the protocol."""


class Source(Protocol):
    """Where a file is read from, such as a file opened in binary mode."""

    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    """Where a file is written to."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class FileOffer:
    """What is to be sent: a name without folders, and a size in bytes. Raises ValueError."""

    name: str
    size: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_NAME_CHARACTERS or self.name in (".", ".."):
            raise ValueError(f"{self.name!r} is no name for a file")
        if any(character in "/\\" or not character.isprintable() for character in self.name):
            raise ValueError(f"{self.name!r} is no name for a file: it has separators or control characters")
        if self.size < 0:
            raise ValueError(f"{self.size} is no size")


@dataclass(frozen=True, slots=True)
class Receipt:
    """A file that arrived whole: its SHA-256 in hexadecimal as each end computed it, and how long it took.

    ``seconds`` are those of the end that has the receipt: for the sender from its first byte to the receiver's answer.
    """

    offer: FileOffer
    sha256_sent: str
    sha256_received: str
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        return self.offer.size / self.seconds if self.seconds else 0.0


Progress = Callable[[int], None]
"""Called with the bytes so far."""


async def send_file(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    source: Source,
    offer: FileOffer,
    progress: Progress | None = None,
) -> Receipt:
    """Send ``offer.size`` bytes of ``source`` and wait until the receiver has confirmed them.

    Close the writer afterwards. Raises TransferError, or what the stream raises.
    """
    begun_at = time.monotonic()
    text = json.dumps({"name": offer.name, "size": offer.size}).encode()
    writer.write(_LENGTH.pack(len(text)) + text)
    digest = hashlib.sha256()
    done = 0
    while done < offer.size:
        chunk = source.read(min(CHUNK_BYTES, offer.size - done))
        if not chunk:
            raise TransferError(f"{offer.name} ended after {done} of {offer.size} bytes")
        digest.update(chunk)
        writer.write(chunk)
        await writer.drain()
        done += len(chunk)
        if progress:
            progress(done)
    writer.write(digest.digest())
    await writer.drain()
    answer = await _read(reader, _DIGEST_BYTES, "the receiver's confirmation")
    return _receipt(offer, digest.digest(), answer, time.monotonic() - begun_at)


async def receive_file(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    open_sink: Callable[[FileOffer], Sink],
    *,
    max_size: int | None = None,
    progress: Progress | None = None,
) -> Receipt:
    """Write the file that is offered to what ``open_sink`` returns, and confirm it.

    ``open_sink`` decides about the name; raise there to refuse. More than ``max_size`` bytes are refused. Close the
    writer afterwards. Raises TransferError, or what the stream raises.
    """
    begun_at = time.monotonic()
    offer = await _offer(reader)
    if max_size is not None and offer.size > max_size:
        raise TransferError(f"{offer.name} has {offer.size} bytes, over the limit of {max_size}")
    sink = open_sink(offer)
    digest = hashlib.sha256()
    done = 0
    while done < offer.size:
        chunk = await reader.read(min(CHUNK_BYTES, offer.size - done))
        if not chunk:
            raise TransferError(f"the stream ended after {done} of {offer.size} bytes")
        digest.update(chunk)
        sink.write(chunk)
        done += len(chunk)
        if progress:
            progress(done)
    sent = await _read(reader, _DIGEST_BYTES, "the sender's SHA-256")
    writer.write(digest.digest())
    await writer.drain()
    return _receipt(offer, sent, digest.digest(), time.monotonic() - begun_at)


async def _offer(reader: asyncio.StreamReader) -> FileOffer:
    (length,) = _LENGTH.unpack(await _read(reader, _LENGTH.size, "the offer"))
    if length > _MAX_OFFER_BYTES:
        raise TransferError(f"an offer of {length} bytes is over the limit of {_MAX_OFFER_BYTES}")
    try:
        fields = json.loads(await _read(reader, length, "the offer"))
        name, size = fields["name"], fields["size"]
        if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool):
            raise TransferError("the offer has no name and size")
        return FileOffer(name, size)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TransferError(f"the offer is malformed: {error}") from None


async def _read(reader: asyncio.StreamReader, size: int, what: str) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError:
        raise TransferError(f"the stream ended before {what}") from None


def _receipt(offer: FileOffer, sent: bytes, received: bytes, seconds: float) -> Receipt:
    if not hmac.compare_digest(sent, received):
        raise TransferError(f"{offer.name} was damaged: SHA-256 {sent.hex()} was sent, {received.hex()} arrived")
    return Receipt(offer, sent.hex(), received.hex(), seconds)


class GeneratedFile:
    """A Source of ``size`` bytes that look random, and are the same for the same seed and the same reads."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self._left = size
        self._random = random.Random(seed)  # noqa: S311 - test data, no secret

    def read(self, size: int, /) -> bytes:
        size = min(size, self._left)
        self._left -= size
        return self._random.randbytes(size)
