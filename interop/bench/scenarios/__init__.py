"""What is done while something is measured.

A scenario runs at both ends of a `Session`; the first end's result has the figure's value, the other's is dropped.
It raises BenchError rather than give a value when anything was lost or changed on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from interop.bench.scenarios.comparisons import comparisons_forming, comparisons_trickled
from interop.bench.scenarios.connect import connect
from interop.bench.scenarios.data_channel import channel_one_way, channel_open
from interop.bench.scenarios.gathering import gathering
from interop.bench.scenarios.memory import bare_sockets, memory
from interop.bench.scenarios.relaying import relaying
from interop.bench.scenarios.stun_exchange import stun_exchange
from interop.bench.scenarios.traffic import one_way, round_trip
from interop.bench.session import Session

Scenario: TypeAlias = Callable[[Session], Awaitable[dict[str, Any]]]
"""Returns at least ``{"value": float}``, in the figure's unit; the rest goes into the JSON as it is."""

SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        scenario.__name__: scenario
        for scenario in (
            bare_sockets,
            channel_one_way,
            channel_open,
            comparisons_forming,
            comparisons_trickled,
            connect,
            gathering,
            memory,
            one_way,
            relaying,
            round_trip,
            stun_exchange,
        )
    }
)
