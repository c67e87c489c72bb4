"""The file of a capsule while it is written: one JSON object a line, each as soon as it is known."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ice_tcp.capsule.header import Made, preamble

LIMIT: Final = 256 * 1024 * 1024
"""Bytes of the largest capsule that is written or read."""
_LAST_LINE: Final = 64

_logger = logging.getLogger(__name__)


class Capsule:
    """Records one agent, which takes it as its ``capsule``. Make it by ``Capsule.create``, best in a ``with``.

    Nothing that goes wrong with the file reaches the agent: one warning is logged, and the recording ends.
    """

    __slots__ = ("_begun", "_fd", "_left", "_path")

    def __init__(self, fd: int, path: Path, *, limit: int = LIMIT) -> None:
        self._fd: int | None = fd
        self._path = path
        self._left = limit - _LAST_LINE
        self._begun = False

    @classmethod
    def create(cls, path: Path | str, *, limit: int = LIMIT) -> Self:
        """A new file that only its owner may read. Raises OSError, FileExistsError where there is anything already."""
        # O_EXCL does not follow a symbolic link either
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600)
        if hasattr(os, "fchmod"):
            os.fchmod(fd, 0o600)
        return cls(fd, Path(path), limit=limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the recording. A file in which no agent began is removed. May be called more than once."""
        if self._fd is None:
            return
        if self._begun:
            self._end("closed")
        else:
            self._release()
            with suppress(OSError):
                self._path.unlink()

    def begin(self, made: Made) -> None:
        """An agent is about to be made. Raises RuntimeError if this is the second one."""
        if self._begun:
            raise RuntimeError("a capsule records one agent; this one has recorded another")
        self._begun = True
        self.write(preamble())
        self.write({"agent": made.to_json()})

    def write(self, entry: Mapping[str, Any]) -> None:
        """One more line, unless the recording has ended."""
        if self._fd is None:
            return
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        if len(line) > self._left:
            _logger.warning("the capsule %s is full: the session goes on, unrecorded", self._path)
            self._end("full")
            return
        self._left -= len(line)
        self._put(line)

    def give_up(self, reason: str) -> None:
        """Something cannot be recorded, and so nothing after it."""
        if self._fd is not None:
            _logger.warning("the capsule %s ends here: %s", self._path, reason)
            self._end("given up")

    def _put(self, line: bytes) -> None:
        assert self._fd is not None
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            _logger.warning("the capsule %s ends here: %s", self._path, error.strerror)
            self._release()

    def _end(self, why: str) -> None:
        self._put(json.dumps({"end": why}).encode() + b"\n")
        self._release()

    def _release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # a network's file system may tell only now that it is full
                os.close(fd)
