"""Runs seeds of the simulator, all of them or one with its ladder.

python -m tests.sim --seeds 2000
python -m tests.sim --seed 17 --trace
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.sim.campaign import Campaign, replay_command, run_campaign
from tests.sim.run import Result, run_seed


def main() -> int:
    """0 if every property held and every event of interest occurred."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _one(arguments.seed, traced=arguments.trace)
    campaign = run_campaign(arguments.start, arguments.seeds, arguments.jobs)
    _print(campaign)
    return 0 if campaign.passed else 1


def _one(seed: int, *, traced: bool) -> int:
    result = run_seed(seed, traced=traced)
    lines = [*result.ladder, *_scenario(seed, result)] if traced else _scenario(seed, result)
    lines.append(f"FAILED: {result.failure}" if result.failure else "every property held")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if result.failure else 0


def _scenario(seed: int, result: Result) -> list[str]:
    scenario = result.scenario
    lines = [f"seed {seed}: {result.outlook.value}"]
    lines += [f"  {name}: {kind}" for name, kind in scenario.nats.items()]
    lines += [f"  {name}: {side}" for name, side in zip("ab", scenario.sides, strict=True)]
    return lines


def _print(campaign: Campaign) -> None:
    lines = [f"{campaign.seeds} seeds, {campaign.connected} connected, {len(campaign.failures)} failed"]
    lines += [f"  {name:<24} {count:>8}" for name, count in sorted(campaign.interest.items())]
    lines += [f"never occurred: {name}" for name in campaign.missing]
    for seed, failure in sorted(campaign.failures.items()):
        lines += [f"seed {seed}: {failure}", f"  {replay_command(seed)}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
