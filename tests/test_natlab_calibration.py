"""The simulator's NATs against those of the kernel: the same verdict for every pair of kinds. Needs root."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from candidates.candidate import Transport
from ice_tcp.core.events import Role
from interop.natlab.expectation import Outcome
from interop.natlab.kinds import Box, NatKind, Ports, Site
from interop.natlab.matrix import whole
from interop.natlab.namespaces import Run
from interop.natlab.results import CellResult
from interop.natlab.runner import run_cells
from interop.natlab.scenario import Scenario, Transports, Weather
from tests.sim import nat as simulated
from tests.sim.build import build
from tests.sim.network import Link
from tests.sim.properties import concluded
from tests.sim.scenario import Place, Side
from tests.sim.scenario import Scenario as SimScenario
from tests.sim.serverkinds import Ask
from tests.sim.serverkinds import ServerKind as SimServerKind
from tests.sim.signaling import Latency
from tests.sim.world import World

JOBS = 4
SERVER = "s1"
BASE = Scenario(left=Site.parse("direct"), right=Site.parse("direct"), weather=Weather(rtt=0.02), signaling=0.02)

PORTS = {
    Ports.PRESERVED: simulated.Ports.PRESERVED,
    Ports.OTHER: simulated.Ports.RANDOM,
    Ports.SEQUENTIAL: simulated.Ports.SEQUENTIAL,
    Ports.RANDOM: simulated.Ports.RANDOM,
}
"""Whether another port is chosen at random or computed makes no difference to a peer."""


def pair(cell: Scenario) -> tuple[str, str]:
    assert cell.right is not None
    return str(cell.left), str(cell.right)


def in_the_simulator(kind: NatKind) -> simulated.NatKind | None:
    """What the simulator has for a kind of the lab; None where there is no box."""
    if kind.box is Box.NONE:
        return None
    return simulated.NatKind(
        mapping=simulated.Mapping(str(kind.mapping)),
        filtering=simulated.Filtering(str(kind.filtering)),
        ports=PORTS[kind.ports],
        translates=kind.box is Box.NAT,
    )


def simulate(cell: Scenario) -> Outcome:
    """The verdict of the simulator."""
    family = 6 if any(4 not in site.families for site in cell.sites) else 4
    nats: dict[str, simulated.NatKind] = {}
    sides = []
    for name, role, site in zip("ab", (Role.CONTROLLING, Role.CONTROLLED), cell.sites, strict=True):
        box = in_the_simulator(site.kind)
        if box is not None:
            nats[name] = box
        sides.append(
            Side(
                role=role,
                places=(Place((name,) if box is not None else (), family),),
                transports=tuple(Transport(each) for each in cell.transports.names),
                asks=(Ask(SERVER, transport=Transport.UDP), Ask(SERVER, transport=Transport.TCP)),
                latency=Latency(base=cell.signaling, jitter=0.0),
            )
        )
    link = Link(delay=cell.weather.rtt / 4)
    server = SimServerKind(families=(4, 6), twofold=True, delay=link.delay)
    scenario = SimScenario(1, (sides[0], sides[1]), nats, link, {SERVER: server})
    world = World(scenario.seed)
    (session,) = build(scenario, world)
    for peer in session.peers:
        world.clock.at(peer.side.starts_at, peer.start)
    if not world.clock.run(60.0, lambda: all(map(concluded, session.peers))):
        return Outcome.FAILED
    paths = [peer.shell.agent.selected_path() for peer in session.peers]
    if None in paths:
        return Outcome.FAILED
    return Outcome.RELAY if any(path is not None and path.is_relayed for path in paths) else Outcome.DIRECT


class Silent:
    """Says nothing of a run."""

    def classified(self, site: Site, wrong: Sequence[str]) -> None: ...
    def finished(self, result: CellResult, done: int, total: int) -> None: ...


@pytest.mark.natlab
@pytest.mark.parametrize("transports", [Transports.UDP, Transports.TCP])
def test_the_simulator_and_the_kernel_come_to_the_same_verdict(
    run: Run, tmp_path: Path, transports: Transports
) -> None:
    cells = whole(BASE, [transports])
    reports = asyncio.run(run_cells(run, cells, tmp_path, jobs=JOBS, repeat=1, observer=Silent()))
    measured = {pair(report.scenario): report.outcome for report in reports}
    assert {pair(cell): simulate(cell) for cell in cells} == measured
    assert set(measured.values()) == {Outcome.DIRECT, Outcome.RELAY}


def test_another_nat_is_another_verdict() -> None:
    """The comparison can fail."""
    cell = replace(BASE, left=Site.parse("symmetric-random"), right=Site.parse("port-restricted"))
    assert simulate(cell) is Outcome.RELAY
    assert simulate(replace(cell, left=Site.parse("full-cone"))) is Outcome.DIRECT
