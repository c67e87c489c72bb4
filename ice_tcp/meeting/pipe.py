"""Standard input and output over a stream, as netcat has them over TCP."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any, Final

_CHUNK_BYTES: Final = 2**16


async def pipe(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, input_fd: int = 0, output_fd: int = 1
) -> None:
    """Until both sides' inputs have ended, and all is written. The end of one is told to the other side at once.

    Raises BrokenPipeError if nobody reads the output any more, and ConnectionError if the stream is lost before.
    """
    sending = asyncio.create_task(_send(_Input(input_fd), writer))
    receiving = asyncio.create_task(_receive(reader, output_fd))
    both = asyncio.gather(sending, receiving)
    # It tells of a peer that is gone before the next input does. Never cancelled: what it awaits is the writer's own.
    closed = asyncio.ensure_future(writer.wait_closed())
    closed.add_done_callback(lambda done: done.cancelled() or done.exception())
    either: tuple[asyncio.Future[Any], ...] = (both, closed)
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if closed.done():
            await closed
        await both
    finally:
        for task in (sending, receiving):
            task.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)


async def _receive(reader: asyncio.StreamReader, output_fd: int) -> None:
    while data := await reader.read(_CHUNK_BYTES):
        await asyncio.to_thread(_write_all, output_fd, data)


async def _send(source: _Input, writer: asyncio.StreamWriter) -> None:
    while data := await source.read():
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class _Input:
    """Reads whatever can be read, also files, in a thread that does not keep the process alive; one chunk ahead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = threading.Semaphore(1)
        threading.Thread(target=self._work, daemon=True, name="input").start()

    async def read(self) -> bytes:
        """The next chunk; empty at the end."""
        chunk = await self._chunks.get()
        self._wanted.release()
        return chunk

    def _work(self) -> None:
        chunk = b"-"
        while chunk:
            self._wanted.acquire()
            try:
                chunk = os.read(self._descriptor, _CHUNK_BYTES)
            except OSError:
                chunk = b""  # what cannot be read has ended
            try:
                self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
            except RuntimeError:
                return  # the loop was closed meanwhile
