"""The targets that ship, by name. Each is imported when it is asked for, and with it what it needs."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from interop.conformance.target import Target, TargetError

OURS: Final = "ice-tcp"
SHIPPED: Final = {
    OURS: "interop.conformance.targets.ice_tcp_agent:IceTcpTarget",
    "ice-tcp-aioice": "interop.conformance.targets.aioice_connection:DropInTarget",
    "aioice": "interop.conformance.targets.aioice_connection:AioiceTarget",
    "libnice": "interop.conformance.targets.libnice:LibniceTarget",
}
PIPE: Final = "pipe:"


def open_target(name: str) -> Target:
    """The target of this name: one that ships, ``pipe:COMMAND`` for a program, or ``MODULE:CLASS`` for a `Target`.

    Raises TargetError if there is none, or if what it needs is not installed.
    """
    if name.startswith(PIPE):
        from interop.conformance.targets.pipe import PipeTarget

        return PipeTarget(name.removeprefix(PIPE))
    module, colon, class_name = SHIPPED.get(name, name).partition(":")
    if not colon:
        raise TargetError(f"{name!r} is none of {', '.join(SHIPPED)}, nor {PIPE}COMMAND or MODULE:CLASS")
    try:
        target = getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        raise TargetError(f"{name} cannot be tested: {error}") from error
    opened: Target = target()
    return opened
