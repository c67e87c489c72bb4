"""Planted faults: whatever is broken in the core, a property of the simulator notices within the seeds of a run."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.sim.campaign import SERVER_SHARE
from tests.sim.mutants import MUTANTS
from tests.sim.run import run_scenario, run_seed
from tests.sim.seeds import WITH_SERVERS, draw_scenario
from tests.sim.servermutants import SERVER_MUTANTS
from tests.test_sim import SEEDS
from tests.test_sim_relays import HOURS, KEPT_OPEN, scenario


def catches(seeds: Iterable[int]) -> bool:
    return any(run_seed(seed).failure is not None for seed in seeds)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str) -> None:
    with MUTANTS[name]():
        caught = catches(range(SEEDS))
    assert caught, f"the properties hold over {SEEDS} seeds although the core is broken: {name}"


TURNED_AWAY = 1000316
"""A seed whose peer is dialled through a relay before its side has let us in."""
AN_HOUR = [scenario(*sides, load=3600.0) for sides in HOURS.values()]
SHOWN_BY = {
    "permission-never-refreshed": AN_HOUR,
    "channel-never-refreshed": AN_HOUR,
    "allocation-never-refreshed": AN_HOUR,
    "stun-connection-closed-early": [KEPT_OPEN],
    "no-knocking": [draw_scenario(TURNED_AWAY)],
}
"""Faults that take minutes or rare NATs to show, and the scenarios that show them."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(SERVER_MUTANTS.keys() - SHOWN_BY.keys()))
def test_is_caught_with_servers(name: str) -> None:
    seeds = range(WITH_SERVERS, WITH_SERVERS + SEEDS // SERVER_SHARE)
    with SERVER_MUTANTS[name]():
        caught = catches(seeds)
    assert caught, f"the properties hold over {len(seeds)} seeds although the core is broken: {name}"


@pytest.mark.parametrize("name", SHOWN_BY)
def test_is_caught_by_a_scenario_of_its_own(name: str) -> None:
    with SERVER_MUTANTS[name]():
        caught = any(run_scenario(each).failure is not None for each in SHOWN_BY[name])
    assert caught, f"the properties hold although the core is broken: {name}"
