"""The options ``--trace`` and ``--redact`` of every command that runs a session."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ice_tcp.tracefile.format import TraceError
from ice_tcp.tracefile.writer import TraceFile, check_target


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the user wants traced: nothing if ``path`` is None. `open` it where the session begins."""

    path: Path | None = None
    redact: bool = False

    def open(self) -> AbstractContextManager[TraceFile | None]:
        """The sink for an agent. Raises click.UsageError if the file cannot be written."""
        if self.path is None:
            return nullcontext()
        try:
            return TraceFile(self.path, redact=self.redact)
        except (TraceError, OSError) as error:
            raise _unusable(self.path, error) from None

    def beside(self, side: str) -> Tracing:
        """The same for the other process of a command: ``demo.jsonl`` becomes ``demo-receiver.jsonl``."""
        if self.path is None:
            return self
        return Tracing(self.path.with_name(f"{self.path.stem}-{side}{self.path.suffix}"), self.redact)

    def arguments(self) -> list[str]:
        """The options that say the same to another process."""
        if self.path is None:
            return []
        return ["--trace", str(self.path), *(["--redact"] if self.redact else [])]

    def check(self) -> None:
        """Raises click.UsageError if it is known before that the file cannot be written."""
        if self.path is None:
            return
        try:
            check_target(self.path)
            if not self.path.parent.is_dir():
                raise TraceError(f"there is no folder {self.path.parent}")
        except (TraceError, OSError) as error:
            raise _unusable(self.path, error) from None


def trace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--trace`` and ``--redact``, as its parameter ``tracing``."""

    @click.option(
        "--trace",
        "trace",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="F",
        help="Write what the session does to this file. An older trace is overwritten.",
    )
    @click.option("--redact", is_flag=True, help="Write no addresses and names of hosts to the trace.")
    @wraps(command)
    def wrapper(*, trace: Path | None, redact: bool, **others: Any) -> Any:
        if redact and trace is None:
            raise click.UsageError("--redact is for the trace: give --trace F, too")
        tracing = Tracing(trace, redact)
        tracing.check()
        return command(tracing=tracing, **others)

    return wrapper


def _unusable(path: Path, error: Exception) -> click.UsageError:
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return click.UsageError(f"--trace: {text}" if str(path) in text else f"--trace: {path}: {text}")
