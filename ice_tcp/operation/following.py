"""Keeps what a server does in step with a policy file, and other files, that change while it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

from candidates.policy import Policy, PolicyError
from ice_tcp.operation.watch import Watch
from ice_tcp.policy_file import read_policy
from ice_tcp.policy_option import policy_for_command

logger = logging.getLogger(__name__)

INTERVAL: Final = 1.0
"""Seconds between two looks at the files."""

Apply: TypeAlias = Callable[[Policy], Sequence[str]]
"""Heeds a policy in a running server: the names of what needs a restart. Raises ValueError or OSError for one that
cannot be heeded, and then has heeded nothing of it."""


class Following:
    """The policy of a server, and the files that decide with it.

    First `begin`, then, once the server runs, `follow`. What cannot be used is logged, once for each change, and
    what was before stays.
    """

    def __init__(self, path: Path | None, files: Iterable[Path | None] = ()) -> None:
        """Without a ``path`` the policy is the default one; ``files`` are others that are read with it, or None."""
        self._path = path
        self._watch = Watch(file for file in (path, *files) if file is not None)
        self._restart: tuple[str, ...] = ()
        self.asked = asyncio.Event()
        """Set it to have everything read again at once."""

    def begin(self) -> Policy:
        """The policy as it is. Raises click's UsageError."""
        return Policy.default() if self._path is None else policy_for_command(self._path, note=self._watch.note)

    def note(self, *files: Path | None) -> None:
        """Watch these, too: files that the policy names, and that the server reads."""
        for file in files:
            if file is not None:
                self._watch.note(file)

    async def follow(self, apply: Apply, stopped: asyncio.Event, *, interval: float = INTERVAL) -> None:
        """Look every ``interval`` seconds, and at once when it is `asked`, until ``stopped``."""
        stopping = asyncio.ensure_future(stopped.wait())
        asking = asyncio.ensure_future(self.asked.wait())
        try:
            while not stopping.done():
                await asyncio.wait((stopping, asking), timeout=interval, return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    self.asked.clear()
                    asking = asyncio.ensure_future(self.asked.wait())
                    self.reload(apply)
                elif not stopping.done():
                    self.look(apply)
        finally:
            for task in (stopping, asking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def look(self, apply: Apply) -> None:
        """Read everything again if a file has changed, and is not being written any more."""
        if self._watch.has_changed():
            self.reload(apply)

    def reload(self, apply: Apply) -> None:
        """Read everything again."""
        self._watch = Watch(self._watch.paths)
        try:
            restart = tuple(apply(self._read()))
        except (PolicyError, OSError, ValueError) as error:
            logger.error("not used, what was before stays: %s", error)
            return
        logger.info("%s: read again", self._path or "files of the command line")
        if restart and restart != self._restart:
            logger.warning("needs a restart: %s", ", ".join(restart))
        self._restart = restart

    def _read(self) -> Policy:
        if self._path is None:
            return Policy.default()
        if self._path.stat().st_size == 0:
            raise ValueError(f"{self._path}: it is empty, and may be about to be written; for the default write {{}}")
        return read_policy(self._path, note=self._watch.note)


def log_to_stderr(*, verbose: bool) -> None:
    """Show what is logged about files that change; everything else from warnings on, or if it is ``verbose``."""
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)


def catch_signals(following: Following) -> asyncio.Event:
    """Have SIGHUP read files again, and SIGINT and SIGTERM set what this returns."""
    stopped = asyncio.Event()
    for name, act in (("SIGINT", stopped.set), ("SIGTERM", stopped.set), ("SIGHUP", following.asked.set)):
        if (number := getattr(signal, name, None)) is not None:
            _catch(number, act)
    return stopped


def _catch(number: signal.Signals, act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))
