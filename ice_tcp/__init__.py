"""ICE over UDP and TCP (RFC 8445, RFC 6544) for asyncio. Begin with `Agent`, or with `listen` and `connect`."""

from typing import TYPE_CHECKING, Any

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy, PolicyError, load_policy
from ice_tcp.agent import Agent, AgentStats, CandidatePairStats, EventStream
from ice_tcp.capsule import Capsule
from ice_tcp.core.events import (
    AgentState,
    Event,
    GatheringDone,
    LocalCandidateFound,
    MappingBehaviour,
    MappingFound,
    PairChanged,
    PairState,
    PathSelected,
    Purpose,
    RelayLost,
    Restarted,
    RestartFailed,
    Role,
    RoleChanged,
    SelectedPath,
    ServerReport,
    ServerReported,
    StateChanged,
)
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.core.trace import TraceSink
from ice_tcp.core.verdicts import Verdict
from ice_tcp.errors import ConnectError, ConnectionClosed, IceError, NoPathError
from ice_tcp.policy_file import read_policy
from ice_tcp.punching import PunchPort, SecretError, punch
from ice_tcp.tracefile import TraceError, TraceFile, read_trace

if TYPE_CHECKING:
    from ice_tcp.meeting import connect, listen

__all__ = [
    "Agent",
    "AgentState",
    "AgentStats",
    "Candidate",
    "CandidatePairStats",
    "CandidateType",
    "Capsule",
    "ConnectError",
    "ConnectionClosed",
    "Event",
    "EventStream",
    "GatheringDone",
    "IceError",
    "IceParameters",
    "LocalCandidateFound",
    "MappingBehaviour",
    "MappingFound",
    "NoPathError",
    "PairChanged",
    "PairState",
    "PathSelected",
    "Policy",
    "PolicyError",
    "PunchPort",
    "Purpose",
    "RelayLost",
    "RestartFailed",
    "Restarted",
    "Role",
    "RoleChanged",
    "SecretError",
    "SelectedPath",
    "ServerFailure",
    "ServerReport",
    "ServerReported",
    "ServerVerdict",
    "StateChanged",
    "TcpType",
    "TraceError",
    "TraceFile",
    "TraceSink",
    "Transport",
    "TransportAddress",
    "Verdict",
    "connect",
    "listen",
    "load_policy",
    "punch",
    "read_policy",
    "read_trace",
]


def __getattr__(name: str) -> Any:
    """What needs the extra ``rendezvous`` is imported when it is asked for."""
    if name not in ("connect", "listen"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ice_tcp import meeting

    return getattr(meeting, name)
