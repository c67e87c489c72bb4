"""Which peers are not installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

from interop.conformance.targets.libnice import SYSTEM_PYTHON

_NODE_MODULE = Path(__file__).with_name("node_modules") / "@roamhq" / "wrtc"
_NICE = "import gi; gi.require_version('Nice', '0.1'); from gi.repository import Nice"


def missing() -> dict[str, str]:
    """By peer: what it lacks. `make interop-deps` installs all of them."""
    wanted = {
        "libnice": None if _has_nice() else "gir1.2-nice-0.1, python3-gi",
        "libwebrtc in Node": _program("node") or (None if _NODE_MODULE.exists() else "@roamhq/wrtc"),
        "Chromium": _program("chromium") or _program("chromedriver") or _module("selenium"),
        "Firefox": _program("firefox-esr") or _module("marionette_driver"),
        "coturn": _program("turnserver"),
    }
    return {peer: lacking for peer, lacking in wanted.items() if lacking is not None}


def _program(name: str) -> str | None:
    return None if shutil.which(name) else name


def _module(name: str) -> str | None:
    return None if importlib.util.find_spec(name) else f"{name} of PyPI"


def _has_nice() -> bool:
    try:
        return subprocess.run([SYSTEM_PYTHON, "-c", _NICE], capture_output=True).returncode == 0  # noqa: S603
    except FileNotFoundError:
        return False
