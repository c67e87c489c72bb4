"""What systems do not all have. Linux has it all; docs/platforms.md tells what is done elsewhere.

Constants of the socket module that are not there are looked up here alone, so that importing fails nowhere.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

SHARE: Final = tuple(
    option for name in ("SO_REUSEADDR", "SO_REUSEPORT") if (option := getattr(socket, name, None)) is not None
)
"""What sockets of one port set."""
CAN_SHARE_PORTS: Final = hasattr(socket, "SO_REUSEPORT")
"""Whether a listener and connections can have one port, as simultaneous open needs (RFC 6544 s5.1)."""
USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
"""The kernel's own deadline for a SYN; else a timer is set."""
NOTSENT_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)
"""Bounds what waits unsent in the kernel; else as much waits there as its buffer holds, and STUN behind it."""
KEEPALIVE: Final = tuple(
    (option, value)
    for names, value in ((("TCP_KEEPIDLE", "TCP_KEEPALIVE"), 60), (("TCP_KEEPINTVL",), 15), (("TCP_KEEPCNT",), 4))
    for option in [next((getattr(socket, name) for name in names if hasattr(socket, name)), None)]
    if option is not None
)
"""Options of a connection whose far end may be gone without a word, with their values in seconds, and a count."""


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raises RuntimeError for an event loop that cannot watch sockets, as the default one of Windows."""
    proactor = getattr(asyncio, "ProactorEventLoop", None)
    if proactor is not None and isinstance(loop, proactor):
        raise RuntimeError(
            "ice-tcp needs an event loop that watches sockets: on Windows "
            "asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)"
        )
