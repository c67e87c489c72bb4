"""Two thousand seeds of the simulated world, and the oracle that judges them.

A failing seed prints the one command that replays it; once understood, it becomes a scenario of test_sim_found.
"""

from __future__ import annotations

import os

import pytest

from tests.conftest import SUMMARY
from tests.sim.campaign import run_campaign
from tests.sim.nat import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    NOT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_BY_ADDRESS,
    SYMMETRIC_SEQUENTIAL,
    NatKind,
)
from tests.sim.oracle import GETS_IN, OPEN, Barrier, Box, barrier, datagrams_pass
from tests.sim.run import run_seed

SEEDS = 2000


@pytest.mark.timeout(1800)
def test_every_property_holds_over_the_seeds(request: pytest.FixtureRequest) -> None:
    campaign = run_campaign(0, SEEDS, os.cpu_count() or 1)
    request.config.stash[SUMMARY] = campaign.report()
    assert campaign.passed, "\n".join(campaign.report())


def test_a_seed_is_deterministic() -> None:
    first, second = (run_seed(7, traced=True) for _ in range(2))
    assert first.ladder == second.ladder
    assert len(first.ladder) > 100


MEASURED = [box for box in Box if box is not Box.UNSEEN]
CONNECTS: dict[Box, dict[Box, bool]] = {
    Box.FULL_CONE: dict.fromkeys(MEASURED, True),
    Box.ADDRESS_RESTRICTED: dict.fromkeys(MEASURED, True),
    Box.PORT_RESTRICTED: {box: box is not Box.SYMMETRIC for box in MEASURED},
    Box.SYMMETRIC: {box: box in (Box.OPEN, Box.FULL_CONE, Box.ADDRESS_RESTRICTED) for box in MEASURED},
}
"""The measured table "which NATs connect"."""


class TestOracle:
    @pytest.mark.parametrize("column", MEASURED)
    @pytest.mark.parametrize("row", CONNECTS)
    def test_follows_the_measured_table(self, row: Box, column: Box) -> None:
        assert datagrams_pass(Barrier(row), Barrier(column)) is CONNECTS[row][column]
        assert (GETS_IN[row][column] or GETS_IN[column][row]) is CONNECTS[row][column]

    @pytest.mark.parametrize(
        ("kinds", "box"),
        [
            ((), Box.OPEN),
            ((FULL_CONE,), Box.FULL_CONE),
            ((ADDRESS_RESTRICTED,), Box.ADDRESS_RESTRICTED),
            ((PORT_RESTRICTED,), Box.PORT_RESTRICTED),
            ((NOT_PRESERVING,), Box.PORT_RESTRICTED),
            ((FIREWALL,), Box.PORT_RESTRICTED),
            ((SYMMETRIC,), Box.SYMMETRIC),
            ((SYMMETRIC_BY_ADDRESS,), Box.SYMMETRIC),
            ((SYMMETRIC_SEQUENTIAL,), Box.SYMMETRIC),
            ((FULL_CONE, PORT_RESTRICTED), Box.PORT_RESTRICTED),
            ((SYMMETRIC, FULL_CONE), Box.SYMMETRIC),
        ],
    )
    def test_nats_in_a_row_are_as_bad_as_the_worst(self, kinds: tuple[NatKind, ...], box: Box) -> None:
        assert barrier(kinds).box is box
        assert (barrier(kinds) == OPEN) is (not kinds)
