"""Which seed stands for which scenario."""

from __future__ import annotations

from tests.sim.generator import Generator
from tests.sim.scenario import Scenario
from tests.sim.servergenerator import ServerGenerator

WITH_SERVERS = 1_000_000
"""Seeds from here on have servers in their worlds."""


def draw_scenario(seed: int) -> Scenario:
    """The scenario of a seed; the same seed, the same scenario."""
    return (ServerGenerator if seed >= WITH_SERVERS else Generator)(seed).draw()
