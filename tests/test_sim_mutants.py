"""Planted faults: whatever is broken in the core, a property of the simulator notices within the seeds of a run."""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.run import run_seed
from tests.test_sim import SEEDS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str) -> None:
    with MUTANTS[name]():
        caught = next((seed for seed in range(SEEDS) if run_seed(seed).failure is not None), None)
    assert caught is not None, f"the properties hold over {SEEDS} seeds although the core is broken: {name}"
