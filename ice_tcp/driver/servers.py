"""The servers of a policy as they are to be asked now: credentials may depend on the hour."""

from __future__ import annotations

import time

from candidates.policy import Policy
from ice_tcp.core.servers import Server, servers_of


def servers_now(policy: Policy) -> tuple[Server, ...]:
    """With credentials that are good from now on."""
    return servers_of(policy, time.time())
