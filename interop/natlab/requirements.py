"""What the lab needs of the machine, and what of it is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from interop.natlab.scenario import ServerKind

PROGRAMS: Final = {"ip": "iproute2", "nft": "nftables", "conntrack": "conntrack", "openssl": "openssl"}
"""Programs, each with Debian's package."""


def missing(servers: ServerKind) -> list[str]:
    """What is missing, each with what would help; empty if the lab can run."""
    lacking = []
    if os.geteuid():
        lacking.append("root, for network namespaces: sudo")
    programs = dict(PROGRAMS)
    if servers is ServerKind.COTURN:
        programs["turnserver"] = "coturn"
    lacking += [
        f"{name}: apt-get install {package}" for name, package in programs.items() if shutil.which(name) is None
    ]
    if not Path("/dev/net/tun").exists():
        lacking.append("/dev/net/tun: modprobe tun")
    return lacking
