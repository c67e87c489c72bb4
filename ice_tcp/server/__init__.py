"""An embedded STUN and TURN server, for demos, tests and small set-ups; production uses coturn (docs/servers.md).

STUN and TURN over UDP, TCP and TLS (RFC 8489, RFC 8656), TCP allocations (RFC 6062), NAT behaviour discovery with two
addresses (RFC 5780): ``async with Server(ServerOptions(users={"user": "password"})) as server``.
"""

from ice_tcp.server.core.accounts import short_lived_password
from ice_tcp.server.core.actions import Leg, Listener
from ice_tcp.server.options import Limits, ServerOptions
from ice_tcp.server.peers import PeerPolicy
from ice_tcp.server.server import Server
from ice_tcp.server.stats import Relayed, ServerStats

__all__ = [
    "Leg",
    "Limits",
    "Listener",
    "PeerPolicy",
    "Relayed",
    "Server",
    "ServerOptions",
    "ServerStats",
    "short_lived_password",
]
