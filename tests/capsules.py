"""Capsules of whatever runs in a test, and their replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ice_tcp.capsule import Capsule, RecordingAgent, Replay, Replayed, open_capsule
from tests.sim import build
from tests.sim.run import Result, run_scenario
from tests.sim.scenario import Scenario


def replayed(path: Path) -> Replayed:
    with open_capsule(path) as reader:
        return Replay(reader).run()


def names(path: Path) -> list[str]:
    """Of the inputs in a capsule."""
    with open_capsule(path) as reader:
        return [step.name for step in reader.steps()]


@contextmanager
def recording_simulation(folder: Path) -> Iterator[list[Path]]:
    """Every agent that the simulator makes has a capsule; their paths, as they are made."""
    capsules: list[Capsule] = []
    paths: list[Path] = []

    def make(*args: Any, **others: Any) -> RecordingAgent:
        paths.append(folder / f"{len(paths)}.capsule")
        capsules.append(Capsule.create(paths[-1]))
        return RecordingAgent(*args, capsule=capsules[-1], **others)

    with patch.object(build, "Agent", make):
        try:
            yield paths
        finally:
            for capsule in capsules:
                capsule.close()


def recorded_scenario(scenario: Scenario, folder: Path) -> tuple[Result, list[Path]]:
    folder.mkdir(exist_ok=True)
    with recording_simulation(folder) as paths:
        return run_scenario(scenario), paths
