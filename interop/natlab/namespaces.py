"""Network namespaces of one run of the lab: made, entered, and taken away, also those that a dead run left.

All names are ``icetcp-RUN-...``. A run holds a lock on a file of its own in `LOCKS` while it lives; whoever can take
the lock of another run knows that it is dead. Names without such a file are not ours, and are not touched.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from interop.natlab.kinds import LabError

PREFIX: Final = "icetcp-"
LOCKS: Final = Path("/run/icetcp-natlab")

_NETNS: Final = Path("/run/netns")
_CLONE_NEWNET: Final = 0x40000000
_KILL_TIMEOUT: Final = 2.0


class Run:
    """One run's hold on the machine: ``with Run() as run``, then `create`. What it made is gone afterwards.

    Taking hold also clears away what dead runs left.
    """

    def __init__(self) -> None:
        self.id = secrets.token_hex(3)
        self._lock: int | None = None

    def __enter__(self) -> Self:
        LOCKS.mkdir(mode=0o700, exist_ok=True)
        self._lock = _take_lock(_lock_file(self.id))
        clear_dead_runs()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        clear(self.id)
        if self._lock is not None:
            os.close(self._lock)

    def name(self, *parts: str) -> str:
        """The name of a namespace of this run."""
        return "-".join((PREFIX + self.id, *parts))


def create(names: Iterable[str]) -> None:
    """Make namespaces."""
    batch([f"netns add {name}" for name in names])


def delete(names: Iterable[str]) -> None:
    """Take namespaces away, in which nothing runs any more."""
    batch([f"netns del {name}" for name in names if (_NETNS / name).exists()])


def clear(run_id: str) -> None:
    """End and take away all that a run made, and its lock file last."""
    names = sorted(path.name for path in _NETNS.glob(f"{PREFIX}{run_id}-*"))
    for name in names:
        _end_processes(name)
    delete(names)
    _lock_file(run_id).unlink(missing_ok=True)


def clear_dead_runs() -> None:
    """Take away what runs left whose process is gone, though their lock file is not."""
    for path in sorted(LOCKS.glob("*.lock")):
        lock = _take_lock(path)
        if lock is not None:
            clear(path.stem)
            os.close(lock)


def batch(lines: Iterable[str], namespace: str | None = None) -> None:
    """Commands for ``ip``, in one process. Raises LabError."""
    where = [] if namespace is None else ["-n", namespace]
    run("ip", *where, "-batch", "-", text="\n".join(lines) + "\n")


def run(*command: str, text: str = "", namespace: str | None = None) -> str:
    """Run a program, perhaps in a namespace; what it printed. Raises LabError if it fails."""
    with inside(namespace):
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603
        except FileNotFoundError:
            raise LabError(f"{command[0]} is not installed") from None
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def inside(namespace: str | None) -> Iterator[None]:
    """Be in a namespace: sockets opened here stay there, and so do processes started here. Await nothing within."""
    if namespace is None:
        yield
        return
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(namespace)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(before)


def enter(namespace: str) -> None:
    """Be in a namespace from now on."""
    there = os.open(_NETNS / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(there)
    finally:
        os.close(there)


def set_kernel(namespace: str, values: dict[str, int]) -> None:
    """Set kernel parameters of a namespace, such as ``net/ipv4/ip_forward``; what the kernel does not have is off."""
    with inside(namespace):
        for key, value in values.items():
            path = Path("/proc/sys", key)
            if value or path.exists():
                path.write_text(str(value), encoding="ascii")


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _lock_file(run_id: str) -> Path:
    return LOCKS / f"{run_id}.lock"


def _take_lock(path: Path) -> int | None:
    """The descriptor that holds the lock until it is closed; None if somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _end_processes(namespace: str) -> None:
    with suppress(LabError):  # gone already
        pids = [int(pid) for pid in run("ip", "netns", "pids", namespace).split()]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _KILL_TIMEOUT
        while any(Path("/proc", str(pid), "ns/net").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.01)
