"""What tests tell beyond pass and fail."""

from __future__ import annotations

import pytest

SUMMARY = pytest.StashKey[list[str]]()
"""Lines that a test wants to stand at the end of the run: what the simulator met, and how often."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(SUMMARY, [])
    if lines:
        terminalreporter.write_sep("-", "simulator")
        for line in lines:
            terminalreporter.write_line(line)
