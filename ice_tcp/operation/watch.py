"""Whether files have changed, by what the file system says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

_Signature: TypeAlias = tuple[int, int, int, int] | None
"""Device, inode, size and time of the last change; None for a file that is not there."""


class Watch:
    """Files that somebody else writes. `note` each before it is read, then ask `has_changed` now and then.

    A file that is renamed over another is seen like one that is written in place.
    """

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._noted: dict[Path, _Signature] = {}
        self._before: Mapping[Path, _Signature] = {}
        for path in paths:
            self.note(path)

    @property
    def paths(self) -> frozenset[Path]:
        return frozenset(self._noted)

    def note(self, path: Path) -> None:
        """Watch it, as it is now."""
        self._noted[path] = _signature(path)

    def has_changed(self) -> bool:
        """Whether a file is not as it was noted; and not, since the last call, still being written."""
        now = {path: _signature(path) for path in self._noted}
        before, self._before = self._before, now
        return now == before and now != self._noted


def _signature(path: Path) -> _Signature:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
