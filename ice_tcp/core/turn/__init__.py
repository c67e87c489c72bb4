"""Conversations with STUN and TURN servers, without I/O (RFC 8489, RFC 8656, RFC 6062).

Three machines, each on one `ServerPath`: `BindingJob` asks for a server-reflexive address, `UdpAllocation` relays
datagrams, `TcpAllocation` relays connections, each of which is a `DataConnection`. They take bytes and ``now``, arm
the context's timers, and tell a listener. What a server sends never raises; it is dropped, counted and traced.
"""

from ice_tcp.core.exchanges import (
    ServerAnswered,
    ServerDropReason,
    ServerMessageDropped,
    ServerRecord,
    ServerRequestSent,
)
from ice_tcp.core.outcomes import Advice, Cause, ServerFailure, ServerVerdict
from ice_tcp.core.turn.allocate import Allocated, Wishes
from ice_tcp.core.turn.allocation import Allocation, AllocationListener, State
from ice_tcp.core.turn.binding import BindingJob, BindingListener, Mapping
from ice_tcp.core.turn.credentials import Credentials, short_lived_credentials
from ice_tcp.core.turn.link import ServerPath
from ice_tcp.core.turn.redirects import Redirects
from ice_tcp.core.turn.tcp import (
    DataConnection,
    DataConnectionListener,
    TcpAllocation,
    TcpAllocationListener,
)
from ice_tcp.core.turn.udp import UdpAllocation, UdpAllocationListener

__all__ = [
    "Advice",
    "Allocated",
    "Allocation",
    "AllocationListener",
    "BindingJob",
    "BindingListener",
    "Cause",
    "Credentials",
    "DataConnection",
    "DataConnectionListener",
    "Mapping",
    "Redirects",
    "ServerAnswered",
    "ServerDropReason",
    "ServerFailure",
    "ServerMessageDropped",
    "ServerPath",
    "ServerRecord",
    "ServerRequestSent",
    "ServerVerdict",
    "State",
    "TcpAllocation",
    "TcpAllocationListener",
    "UdpAllocation",
    "UdpAllocationListener",
    "Wishes",
    "short_lived_credentials",
]
