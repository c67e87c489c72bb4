"""Reads the policy from its file; `candidates.policy` itself opens none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from candidates.policy import Policy, load_policy


def read_policy(path: str | os.PathLike[str], *, note: Callable[[Path], object] | None = None) -> Policy:
    """The policy of a YAML file; ``${NAME}`` in credentials is the environment's, ``{file: NAME}`` is read, too.

    ``note`` hears of each file just before it is read. Raises PolicyError, with all problems that were found, and
    OSError or UnicodeError if the file cannot be read.
    """

    def read_text(name: str | os.PathLike[str]) -> str:
        if note is not None:
            note(Path(name))
        return Path(name).read_text("utf-8")

    return load_policy(read_text(path), source=os.fspath(path), environ=os.environ, read_file=read_text)
