"""A line through a folder that both sides see, such as one that is synchronised or mounted: signaling without a server.

A mailbox is a folder in it, named by its number. Each text is a file of its own, which appears whole, named by its side
and number; nothing is ever changed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from ice_tcp.meeting.sealed import MeetingError

_POLL_INTERVAL: Final = 0.1
_MAX_TEXT_BYTES: Final = 32 * 1024
_SIDES: Final = ("listen", "connect")
_HERE: Final = "0"
"""The number of the file that says that a side is there."""
_GONE: Final = "gone"


class FolderLine:
    """One side's end; `open_folder` and `join_folder` make one."""

    def __init__(self, folder: Path, *, listens: bool) -> None:
        self._folder = folder
        self._mine, self._theirs = _SIDES if listens else _SIDES[::-1]
        self._sent = self._received = 0

    @property
    def mailbox(self) -> str:
        return self._folder.name

    async def met(self) -> None:
        """Return when the other side is there. Raises MeetingError if the folder is taken away."""
        await self._read(_HERE)

    async def send(self, text: str) -> None:
        """Raises ValueError for a text over 32 KiB, MeetingError if the folder cannot be written."""
        if len(text.encode()) > _MAX_TEXT_BYTES:
            raise ValueError(f"a text of more than {_MAX_TEXT_BYTES} bytes")
        self._sent += 1
        await self.say(str(self._sent), text)

    async def receive(self) -> str | None:
        """The other side's next text; None when it has gone. Raises MeetingError if the folder is taken away."""
        text = await self._read(str(self._received + 1), or_gone=True)
        if text is not None:
            self._received += 1
        return text

    async def say(self, name: str, text: str = "") -> None:
        """Put a file there, whole from the moment that it is there."""
        await asyncio.to_thread(self._write, name, text)

    def _write(self, name: str, text: str) -> None:
        unfinished = self._folder / f".{self._mine}-{name}"
        try:
            unfinished.write_text(text, "utf-8")
            os.replace(unfinished, self._folder / f"{self._mine}-{name}")
        except OSError as error:
            raise MeetingError(f"the folder cannot be used: {error}") from None

    async def _read(self, name: str, *, or_gone: bool = False) -> str | None:
        file, gone = (self._folder / f"{self._theirs}-{each}" for each in (name, _GONE))
        while True:
            is_gone = or_gone and await asyncio.to_thread(gone.exists)
            with suppress(FileNotFoundError):
                return await asyncio.to_thread(_text, file)
            if is_gone:
                return None
            if not await asyncio.to_thread(self._folder.exists):
                raise MeetingError(f"the folder {self._folder} is gone")
            await asyncio.sleep(_POLL_INTERVAL)


@asynccontextmanager
async def open_folder(directory: Path) -> AsyncIterator[FolderLine]:
    """A line from a new mailbox in this folder, which is taken away at the end. Raises MeetingError."""
    try:
        folder = await asyncio.to_thread(_new, directory)
    except OSError as error:
        raise MeetingError(f"the folder cannot be used: {error}") from None
    line = FolderLine(folder, listens=True)
    try:
        await line.say(_HERE)
        yield line
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def join_folder(directory: Path, mailbox: str) -> AsyncIterator[FolderLine]:
    """The line from the other side of a mailbox. Raises MeetingError if there is none, or two have met there."""
    folder = directory / mailbox
    if not await asyncio.to_thread((folder / f"{_SIDES[0]}-{_HERE}").exists):
        raise MeetingError(f"there is no mailbox {mailbox} in {directory}")
    try:
        await asyncio.to_thread((folder / f"{_SIDES[1]}-{_HERE}").touch, exist_ok=False)
    except FileExistsError:
        raise MeetingError(f"two have met in mailbox {mailbox} already") from None
    except OSError as error:
        raise MeetingError(f"the folder cannot be used: {error}") from None
    line = FolderLine(folder, listens=False)
    try:
        yield line
    finally:
        with suppress(MeetingError):  # the other side may have taken the folder away
            await line.say(_GONE)


def _new(directory: Path) -> Path:
    while True:
        folder = directory / str(secrets.randbelow(900) + 100)
        with suppress(FileExistsError):
            folder.mkdir()
            return folder


def _text(file: Path) -> str:
    if file.stat().st_size > _MAX_TEXT_BYTES:
        raise MeetingError("the other side wrote a text that is too long")
    try:
        return file.read_text("utf-8")
    except UnicodeError:
        raise MeetingError("the other side wrote something else than text") from None
