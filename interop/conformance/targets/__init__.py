"""The targets that ship, by name. Each is imported when it is asked for, and with it what it needs."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from interop.conformance.target import Target, TargetError

SHIPPED: Final = {
    "ice-tcp": ("interop.conformance.targets.ice_tcp_agent", "IceTcpTarget"),
    "aioice": ("interop.conformance.targets.aioice_connection", "AioiceTarget"),
}
OURS: Final = "ice-tcp"


def open_target(name: str) -> Target:
    """The target of this name. Raises TargetError if there is none, or if what it needs is not installed."""
    if name not in SHIPPED:
        raise TargetError(f"{name!r} is none of {', '.join(SHIPPED)}")
    module, class_name = SHIPPED[name]
    try:
        target = getattr(import_module(module), class_name)
    except ImportError as error:
        raise TargetError(f"{name} cannot be tested: {error}") from error
    opened: Target = target()
    return opened
