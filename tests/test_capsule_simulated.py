"""Simulated sessions of every kind are replayed from their capsules; a core that was changed is found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from candidates.candidate import TcpType, Transport
from candidates.policy import Policy
from ice_tcp.capsule import Replay, open_capsule
from ice_tcp.capsule.inputs import INPUTS
from ice_tcp.core import consent
from ice_tcp.core.context import Context
from ice_tcp.core.timers import Timers
from ice_tcp.core.trace import Entry, PortsPredicted
from tests.capsules import names, recorded_scenario, replayed
from tests.sim import build
from tests.sim.run import run_seed
from tests.sim.scenario import Fault, Scenario, Side, policy_for
from tests.sim.seeds import WITH_SERVERS, draw_scenario

SEEDS = (*range(40), *range(WITH_SERVERS, WITH_SERVERS + 40))
ONLY_BY_APPLICATIONS = {"select", "set_role"}
"""Inputs that the simulator has no use for; test_capsule has them."""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Path]]:
    folder = tmp_path_factory.mktemp("capsules")
    return {seed: recorded_scenario(draw_scenario(seed), folder / str(seed))[1] for seed in SEEDS}


@pytest.mark.timeout(600)
def test_every_simulated_session_replays_the_same(seeds: dict[int, list[Path]]) -> None:
    for seed, paths in seeds.items():
        for path in paths:
            came = replayed(path)
            assert came.difference is None, f"seed {seed}, {path.name}: {came.difference}"
            assert came.inputs > 0


def test_the_simulated_sessions_have_every_input_but_those_of_applications(seeds: dict[int, list[Path]]) -> None:
    seen = {name for paths in seeds.values() for path in paths for name in names(path)}
    assert seen - {"made"} == INPUTS.keys() - ONLY_BY_APPLICATIONS


def test_the_simulated_sessions_are_of_every_kind() -> None:
    scenarios = [draw_scenario(seed) for seed in SEEDS]
    assert any(scenario.fault is Fault.RESTART for scenario in scenarios)
    assert any(scenario.crowd > 1 for scenario in scenarios)
    assert any(scenario.servers for scenario in scenarios)
    assert any(scenario.components > 1 for scenario in scenarios)


@pytest.mark.timeout(300)
def test_sessions_that_predict_ports_replay_the_same(tmp_path: Path) -> None:
    def predicting(side: Side) -> Policy:
        return policy_for(side).revised(simultaneous_open={"predict_ports": 3})

    predicted: list[Entry] = []

    def trace(_now: float, entry: Entry) -> None:
        if isinstance(entry, PortsPredicted):
            predicted.append(entry)

    with patch.object(build, "policy_for", predicting):
        for seed in range(WITH_SERVERS, WITH_SERVERS + 30):
            scenario = draw_scenario(seed)
            if all(Transport.TCP in side.transports and TcpType.SO in side.tcp_types for side in scenario.sides):
                for path in recorded_scenario(scenario, tmp_path / str(seed))[1]:
                    with open_capsule(path) as reader:
                        assert Replay(reader, trace=trace).run().difference is None
    assert predicted


def test_recording_changes_nothing_of_a_session(tmp_path: Path) -> None:
    recorded, _ = recorded_scenario(draw_scenario(8), tmp_path)
    assert recorded.events == run_seed(8).events
    assert recorded.failure is None


def test_agents_that_share_a_pacer_replay_alone(tmp_path: Path) -> None:
    crowd: Scenario = replace(draw_scenario(8), crowd=3)
    result, paths = recorded_scenario(crowd, tmp_path)
    assert result.failure is None
    assert len(paths) == 6
    assert [replayed(path).difference for path in paths] == [None] * 6


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The controlling side's capsule of a session that connects."""
    result, paths = recorded_scenario(draw_scenario(8), tmp_path_factory.mktemp("one"))
    assert result.connected
    return paths[0]


def _later(self: Timers, at: float, action: Callable[[float], None], *, original: Any = Timers.set) -> Any:
    return original(self, at + 0.001, action)


def _one_more_draw(self: Context, *, original: Any = Context.transaction_id) -> bytes:
    self.rng.random()
    return bytes(original(self))


def _another_draw(self: Context) -> bytes:
    return self.rng.getrandbits(104).to_bytes(13, "big")[1:]


def _nothing(*_: object, **__: object) -> None:
    """In place of what it replaces."""


@pytest.mark.parametrize(
    ("owner", "name", "new", "what"),
    [
        (Timers, "set", _later, ("timer", "command")),
        (Context, "transaction_id", _one_more_draw, ("draw",)),
        (Context, "transaction_id", _another_draw, ("draw",)),
        (consent.Consent, "start", _nothing, ("draw", "timer", "command")),
    ],
)
def test_a_core_that_behaves_otherwise_is_found_out(
    one: Path, owner: Any, name: str, new: Any, what: tuple[str, ...]
) -> None:
    with patch.object(owner, name, new):
        found = replayed(one).difference
    assert found is not None
    assert found.what.split()[0] in what
