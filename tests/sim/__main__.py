"""Runs seeds of the simulator, all of them or one with its ladder.

python -m tests.sim --seeds 2000
python -m tests.sim --seed 17 --trace
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.sim.campaign import run_campaign
from tests.sim.run import run_seed
from tests.sim.seeds import draw_scenario
from tests.sim.shrink import shrink, source


def main() -> int:
    """0 if every property held and every event of interest occurred."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds to run")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--shrink", action="store_true", help="with --seed: print a small scenario that fails alike")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        if arguments.shrink:
            sys.stdout.write(source(shrink(draw_scenario(arguments.seed))) + "\n")
            return 0
        return _one(arguments.seed, traced=arguments.trace)
    campaign = run_campaign(arguments.start, arguments.seeds, arguments.jobs)
    sys.stdout.write("\n".join(campaign.report()) + "\n")
    return 0 if campaign.passed else 1


def _one(seed: int, *, traced: bool) -> int:
    result = run_seed(seed, traced=traced)
    lines = result.ladder if traced else []
    lines += [f"seed {seed}: {result.outlook.value}", f"  {source(result.scenario)}"]
    lines.append(f"FAILED: {result.failure}" if result.failure else "every property held")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if result.failure else 0


if __name__ == "__main__":
    sys.exit(main())
