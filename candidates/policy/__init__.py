"""The policy: YAML -> Policy. Every error names file, line and key."""

from candidates.policy.errors import PolicyError, Problem
from candidates.policy.explanation import Explanation, Step
from candidates.policy.loading import load_policy, policy_of
from candidates.policy.model import Policy
from candidates.policy.rulings import Ruling
from candidates.policy.schema import policy_schema
from candidates.policy.sections import VPN_NAMES, Limits, RemoteRule
from candidates.policy.servers import Scheme, ServerPolicy, ServerUri, parse_server_uri
from candidates.policy.services import OwnServer, Rendezvous, UsersFile
from candidates.policy.settings import Difference, Setting, differences, effective_settings
from candidates.policy.values import AddressFamily, PortRange

__all__ = [
    "VPN_NAMES",
    "AddressFamily",
    "Difference",
    "Explanation",
    "Limits",
    "OwnServer",
    "Policy",
    "PolicyError",
    "PortRange",
    "Problem",
    "RemoteRule",
    "Rendezvous",
    "Ruling",
    "Scheme",
    "ServerPolicy",
    "ServerUri",
    "Setting",
    "Step",
    "UsersFile",
    "differences",
    "effective_settings",
    "load_policy",
    "parse_server_uri",
    "policy_of",
    "policy_schema",
]
