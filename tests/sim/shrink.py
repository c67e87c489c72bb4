"""Makes a failing scenario small: everything that the failure does not need becomes the default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from tests.sim import nat
from tests.sim.application import Behaviour
from tests.sim.nat import NatKind
from tests.sim.network import Link
from tests.sim.run import run_scenario
from tests.sim.scenario import Fault, Place, Scenario, Side
from tests.sim.shell import Manners
from tests.sim.signaling import Latency

NAMED_NATS = {name: kind for name, kind in vars(nat).items() if isinstance(kind, NatKind)}


def shrink(scenario: Scenario) -> Scenario:
    """The smallest scenario that is found to break the same property; ``scenario`` itself if it breaks none."""
    broken = _property(scenario)
    if broken is None:
        return scenario
    while True:
        size = len(source(scenario))
        smaller = next(
            (each for each in _simpler(scenario) if len(source(each)) < size and _property(each) == broken), None
        )
        if smaller is None:
            return scenario
        scenario = smaller


def source(value: object) -> str:
    """Python for a scenario, without what is the default: to be pasted into a test."""
    match value:
        case Enum():
            return f"{type(value).__name__}.{value.name}"
        case NatKind() if value in NAMED_NATS.values():
            return next(name for name, kind in NAMED_NATS.items() if kind == value)
        case tuple():
            inside = ", ".join(source(each) for each in value)
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        case dict():
            return "{" + ", ".join(f"{key!r}: {source(each)}" for key, each in value.items()) + "}"
        case _ if is_dataclass(value):
            changed = [each for each in fields(value) if getattr(value, each.name) != _default(each)]
            inside = ", ".join(f"{each.name}={source(getattr(value, each.name))}" for each in changed)
            return f"{type(value).__name__}({inside})"
        case _:
            return repr(value)


def _default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _property(scenario: Scenario) -> str | None:
    """The name of the property that the scenario breaks."""
    failure = run_scenario(scenario).failure
    return None if failure is None else failure.strip().splitlines()[-1].partition(":")[0]


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with one thing less."""
    for name in ("components", "crowd", "same_host", "same_private_addresses", "fault_side", "syn_schedule"):
        yield replace(scenario, **{name: _default(Scenario.__dataclass_fields__[name])})
    yield replace(scenario, fault=Fault.NONE)
    yield replace(scenario, load=3.0)
    yield replace(scenario, link=Link(delay=0.025))
    yield replace(scenario, link=Link(delay=scenario.link.delay))
    for index, side in enumerate(scenario.sides):
        for simpler in _simpler_sides(side):
            sides = (simpler, scenario.sides[1]) if index == 0 else (scenario.sides[0], simpler)
            yield replace(scenario, sides=sides)
    yield from _fewer_nats(scenario)
    for seed in range(3):
        yield replace(scenario, seed=seed)


def _simpler_sides(side: Side) -> Iterator[Side]:
    for name in ("behaviour", "manners", "latency", "starts_at", "strict_pacing", "proposed_pacing", "taken", "lite"):
        yield replace(side, **{name: _default(Side.__dataclass_fields__[name])})
    for part, kind in (("behaviour", Behaviour), ("manners", Manners), ("latency", Latency)):
        for field in fields(kind):
            yield replace(side, **{part: replace(getattr(side, part), **{field.name: _default(field)})})
    yield replace(side, latency=replace(side.latency, jitter=0.0))
    yield replace(side, starts_at=round(side.starts_at, 2))
    for index in range(len(side.places) if len(side.places) > 1 else 0):
        yield replace(side, places=side.places[:index] + side.places[index + 1 :])
    yield replace(side, places=(Place(),))
    for transport in side.transports:
        yield replace(side, transports=(transport,))
    yield replace(side, tcp_types=_default(Side.__dataclass_fields__["tcp_types"]))
    for tcptype in side.tcp_types:
        yield replace(side, tcp_types=(tcptype,))


def _fewer_nats(scenario: Scenario) -> Iterator[Scenario]:
    used = {name for side in scenario.sides for place in side.places for name in place.nats}
    yield replace(scenario, nats={name: kind for name, kind in scenario.nats.items() if name in used})
    for name, kind in scenario.nats.items():
        plain = NatKind(mapping=kind.mapping, ports=kind.ports, filtering=kind.filtering, translates=kind.translates)
        for simpler in (plain, nat.PORT_RESTRICTED if kind.translates else nat.FIREWALL):
            yield replace(scenario, nats={**scenario.nats, name: simpler})
