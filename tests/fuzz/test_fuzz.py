"""Every fuzz entry, as far as a test run has time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.fuzz import fuzz_framing, fuzz_legs, fuzz_policy, fuzz_sdp, fuzz_stun
from tests.fuzz.harness import Check, inputs


@pytest.mark.parametrize(
    ("check", "seeds"),
    [
        pytest.param(fuzz_framing.check, fuzz_framing.SEEDS, id="framing"),
        pytest.param(fuzz_legs.check, fuzz_legs.SEEDS, id="legs"),
        pytest.param(fuzz_policy.check, fuzz_policy.SEEDS, id="policy"),
        pytest.param(fuzz_sdp.check, fuzz_sdp.SEEDS, id="sdp"),
        pytest.param(fuzz_stun.check, fuzz_stun.SEEDS, id="stun"),
    ],
)
def test_any_input_keeps_the_invariant(check: Check, seeds: list[bytes]) -> None:
    for seed in seeds:
        check(seed)
    settings(deadline=None)(given(inputs(seeds))(check))()
