"""Reads the policy from its file; `candidates.policy` itself opens none."""

from __future__ import annotations

import os
from pathlib import Path

from candidates.policy import Policy, load_policy


def read_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy of a YAML file; ``${NAME}`` in credentials is the environment's, ``{file: NAME}`` is read, too.

    Raises PolicyError, with all problems that were found, and OSError or UnicodeError if the file cannot be read.
    """
    text = Path(path).read_text("utf-8")
    return load_policy(text, source=os.fspath(path), environ=os.environ, read_file=_read_text)


def _read_text(name: str) -> str:
    return Path(name).read_text("utf-8")
