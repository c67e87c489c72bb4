"""Faults for all cases; importing this package fills `FAULTS`."""

from tests.conformance.faults import candidates, checks, conclusion, robustness, servers, stun, tcp
from tests.conformance.faults.registry import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "candidates", "checks", "conclusion", "robustness", "servers", "stun", "tcp"]
