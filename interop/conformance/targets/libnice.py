"""libnice as a target: `libnice_program`, run by the system's Python, which has the bindings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from interop.conformance.targets.pipe import PipeTarget

SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""Debian's, whose packages gir1.2-nice-0.1 and python3-gi no virtual environment sees."""


class LibniceTarget(PipeTarget):
    """Raises TargetError where it is not installed."""

    def __init__(self) -> None:
        super().__init__([SYSTEM_PYTHON, str(Path(__file__).with_name("libnice_program.py"))])
