"""ICE over UDP and TCP (RFC 8445, RFC 6544) for asyncio. Begin with `Agent`."""

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy, PolicyError, load_policy
from ice_tcp.agent import Agent, AgentStats, CandidatePairStats, EventStream
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

__all__ = [
    "Agent",
    "AgentState",
    "AgentStats",
    "Candidate",
    "CandidatePairStats",
    "CandidateType",
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
    "TraceSink",
    "Transport",
    "TransportAddress",
    "Verdict",
    "load_policy",
    "punch",
    "read_policy",
]
