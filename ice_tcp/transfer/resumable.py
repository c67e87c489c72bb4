"""A file over any stream, which goes on where an earlier try was cut off.

The side that has the file says its name and size. The other says how much it has already, and the sum of that; if that
is how the file begins, only the rest is sent, else all. At the end both compare the SHA-256 of the whole file, and only
then does what was received get its name: until then it is ``NAME.part``, and stays if anything goes wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from ice_tcp.transfer.files import FileOffer, TransferError

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many bytes of how many are there."""

_CHUNK_BYTES: Final = 2**16
_MAX_NAME_BYTES: Final = 250  # what file systems have room for, with the suffix
_REASON_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Transferred:
    """A file that is there, and was compared: ``resumed_at`` bytes of it were there before."""

    name: str
    size: int
    sha256: str
    resumed_at: int


async def offer_file(
    path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, progress: Progress = lambda _, __: None
) -> Transferred:
    """Send a file to who takes it with `take_file`; returns when it has it, and the sums agree.

    Raises OSError if the file cannot be read, TransferError if it changes meanwhile or the other side cannot use it,
    and what the stream raises.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        await _say(writer, name=path.name, size=size)
        wish = await _hear(reader)
        had, digest = _number(wish, "have"), hashlib.sha256()
        if had and (had > size or (await _skip(file, had, digest)) != wish.get("sha256")):
            had, digest = 0, hashlib.sha256()
            file.seek(0)
        await _say(writer, begin=had)
        try:
            sent = had
            while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                sent += len(chunk)
                if sent > size:
                    break
                digest.update(chunk)
                writer.write(chunk)
                await writer.drain()
                progress(sent, size)
            if sent != size:
                raise TransferError(f"{path.name} changed while it was sent")
            await _say(writer, sha256=digest.hexdigest())
        except ConnectionResetError as error:  # it reads no more, and has said why
            raise await _reason(reader) or error from None
    answer = await _hear(reader)
    if answer.get("sha256") != digest.hexdigest():
        raise TransferError(f"the other side has not got it: {answer.get('error', 'another sum')}")
    return Transferred(path.name, size, digest.hexdigest(), had)


async def take_file(
    directory: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, progress: Progress = lambda _, __: None
) -> Transferred:
    """Receive a file that is offered by `offer_file` into a directory.

    Raises FileExistsError if there is one of that name, other OSErrors if it cannot be written, TransferError for an
    offer that is none or another sum, and what the stream raises; the other side is told why. What has come stays in
    ``NAME.part``.
    """
    try:
        offer = await _hear(reader)
        return await _take(directory, _name(offer), _number(offer, "size"), reader, writer, progress)
    except OSError as error:
        if not isinstance(error, ConnectionError) or isinstance(error, TransferError):
            with suppress(ConnectionError):
                await _say(writer, error=str(error))
                writer.close()
                await writer.wait_closed()
        raise


async def _take(
    directory: Path,
    name: str,
    size: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    progress: Progress,
) -> Transferred:
    target, part = directory / name, directory / f"{name}.part"
    if os.path.lexists(target):  # noqa: ASYNC240 - takes no time
        raise FileExistsError(f"there is a file {name} already")
    with part.open("a+b") as file:
        had, digest = min(os.fstat(file.fileno()).st_size, size), hashlib.sha256()
        file.seek(0)
        await _say(writer, have=had, sha256=await _skip(file, had, digest))
        begin = _number(await _hear(reader), "begin")
        if begin not in (0, had):
            raise TransferError("the other side begins where it was not asked to")
        if begin != had:
            digest = hashlib.sha256()
        file.truncate(begin)
        file.seek(begin)
        received = begin
        while received < size:
            chunk = await reader.read(min(_CHUNK_BYTES, size - received))
            if not chunk:
                raise TransferError(f"the stream ended after {received} of {size} bytes")
            await asyncio.to_thread(file.write, chunk)
            digest.update(chunk)
            received += len(chunk)
            progress(received, size)
        if (await _hear(reader)).get("sha256") != digest.hexdigest():
            raise TransferError("another sum than the other side's")
        file.flush()
        os.fsync(file.fileno())
    os.link(part, target)  # unlike a renaming, never in place of a file that came meanwhile
    part.unlink()
    await _say(writer, sha256=digest.hexdigest())
    return Transferred(target.name, size, digest.hexdigest(), begin)


async def _skip(file: BinaryIO, size: int, digest: Any) -> str:
    """Read so many bytes into the digest; the sum of them."""

    def read() -> str:
        left = size
        while left and (chunk := file.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
        return str(digest.hexdigest())

    return await asyncio.to_thread(read)


async def _reason(reader: asyncio.StreamReader) -> TransferError | None:
    """What the other side has said, if it has."""
    with suppress(OSError):
        async with asyncio.timeout(_REASON_SECONDS):
            answer = await _hear(reader)
            if "error" in answer:
                return TransferError(f"the other side has not got it: {answer['error']}")
    return None


def _name(offer: Mapping[str, Any]) -> str:
    """The name, which is one of a file in the directory, and not of a hidden one, whatever the other side says."""
    name = offer.get("name")
    try:
        if isinstance(name, str) and not name.startswith(".") and len(os.fsencode(name)) <= _MAX_NAME_BYTES:
            return FileOffer(name, 0).name
    except (ValueError, UnicodeError):
        pass
    raise TransferError("the other side offers a file of a name that is not used here")


def _number(fields: Mapping[str, Any], key: str) -> int:
    if "error" in fields:
        raise TransferError(f"the other side cannot use it: {fields['error']}")
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TransferError("the other side does not speak this protocol")
    return value


async def _say(writer: asyncio.StreamWriter, **fields: object) -> None:
    writer.write(json.dumps(fields).encode() + b"\n")
    await writer.drain()


async def _hear(reader: asyncio.StreamReader) -> Mapping[str, Any]:
    try:
        fields = json.loads(await reader.readuntil(b"\n"))
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise TransferError("the other side ended it") from None
        raise TransferError("the other side does not speak this protocol") from None
    except (ValueError, asyncio.LimitOverrunError):
        raise TransferError("the other side does not speak this protocol") from None
    if not isinstance(fields, dict):
        raise TransferError("the other side does not speak this protocol")
    return fields
