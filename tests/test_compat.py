"""The drop-ins where what they stand on is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "missing"), [("aioice", "aioice"), ("aiortc", "aiortc")])
def test_what_is_missing_is_named_with_the_command_that_installs_it(module: str, missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import ice_tcp.compat.{module}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"ModuleNotFoundError: {missing} is missing: pip install 'ice-tcp[aiortc]'"
