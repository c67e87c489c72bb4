"""Every case can fail: for each there is an agent that does."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from interop.conformance.case import CASES
from interop.conformance.runner import Outcome, Result, run_case
from interop.conformance.selection import select
from interop.conformance.targets.ice_tcp_agent import DEVIATIONS
from tests.conformance.faults import FAULTS
from tests.conformance.middlebox import case_behind

AT_A_TIME: Final = 8
RFCS: Final = sorted({case.rfc for case in select()})


async def results_of(rfc: int) -> dict[str, Result]:
    """What the agent with faults gets in the cases of one RFC, some at a time."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def run(id_: str) -> Result:
        async with gate:
            fault = FAULTS[id_]
            return await run_case(fault.agent(), case_behind(fault.box, CASES[id_]), slow=CASES[id_].slow)

    ids = [case.id for case in select((str(rfc),)) if case.id in FAULTS]
    return dict(zip(ids, await asyncio.gather(*map(run, ids)), strict=True))


@pytest.mark.parametrize("rfc", RFCS)
def test_each_case_fails_where_its_rule_is_broken(rfc: int) -> None:
    found = asyncio.run(results_of(rfc))
    unseen = {
        id_: f"{each.outcome}: {each.evidence}"
        for id_, each in found.items()
        if each.outcome not in (Outcome.FAILED, Outcome.DECLINED)
    }
    assert unseen == {}


def test_there_is_a_fault_for_every_case() -> None:
    """Where our agent deviates, it is the one that fails."""
    assert set(CASES) - set(FAULTS) == set(DEVIATIONS)
    assert set(FAULTS) <= set(CASES)
