"""What an agent does with STUN and TURN servers: ask how the world sees it, and have a relay as the last resort.

`Directory` finds the servers' addresses, `Reflexive` asks from each base how it is seen (RFC 8445 s5.1.1.2, RFC 6544
s5.2), `Relays` keeps the allocations; one `Launcher` paces them. `Servers` composes them.
"""

from ice_tcp.core.servers.relays import RelayUser
from ice_tcp.core.servers.server import Server, servers_of
from ice_tcp.core.servers.servers import Servers

__all__ = ["RelayUser", "Server", "Servers", "servers_of"]
