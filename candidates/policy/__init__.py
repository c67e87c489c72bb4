"""The policy: YAML -> Policy. Every error names file, line and key."""

from candidates.policy.model import VPN_NAMES, Policy
from candidates.policy.rulings import Ruling
from candidates.policy.sections import RemoteRule
from candidates.policy.servers import Scheme, ServerPolicy, ServerUri, parse_server_uri
from candidates.policy.values import AddressFamily, PortRange

__all__ = [
    "VPN_NAMES",
    "AddressFamily",
    "Policy",
    "PortRange",
    "RemoteRule",
    "Ruling",
    "Scheme",
    "ServerPolicy",
    "ServerUri",
    "parse_server_uri",
]
