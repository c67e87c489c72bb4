"""What the simulator found in the core, each as the smallest scenario that showed it then."""

from __future__ import annotations

import pytest

from candidates.candidate import TcpType, Transport
from candidates.policy.servers import Scheme
from ice_tcp.core.events import Role
from tests.sim.application import Behaviour
from tests.sim.nat import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    NOT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_BY_ADDRESS,
    SYMMETRIC_SEQUENTIAL,
)
from tests.sim.network import Link
from tests.sim.run import run_scenario
from tests.sim.scenario import Fault, Place, Scenario, Side
from tests.sim.serverkinds import Ask, ServerKind
from tests.sim.shell import Manners
from tests.sim.signaling import Latency

FOUND = {
    "candidates that trickle in after the nomination make no pairs on sockets about to be closed": Scenario(
        seed=0,
        sides=(
            Side(role=Role.CONTROLLING, places=(Place(nats=("home",)),)),
            Side(role=Role.CONTROLLING, places=(Place(isolated=True), Place(nats=("home",)))),
        ),
        nats={"home": PORT_RESTRICTED},
        link=Link(delay=0.025),
        load=3.0,
    ),
    "two components do not freeze each other on opposite sides, over TCP": Scenario(
        seed=103,
        sides=(
            Side(role=Role.CONTROLLING, places=(Place(nats=("nat-a",)),), transports=(Transport.TCP,)),
            Side(role=Role.CONTROLLED, places=(Place(nats=("nat-b",)),), transports=(Transport.TCP,), starts_at=0.21),
        ),
        nats={"nat-a": PORT_RESTRICTED, "nat-b": PORT_RESTRICTED},
        link=Link(delay=0.1),
        components=2,
        load=3.0,
    ),
    "two components do not freeze each other on opposite sides, over UDP": Scenario(
        seed=1,
        sides=(
            Side(role=Role.CONTROLLED, places=(Place(nats=("wall-a",), family=6), Place(nats=("nat-a",)))),
            Side(role=Role.CONTROLLING, places=(Place(nats=("wall-b",), family=6),)),
        ),
        nats={"wall-a": FIREWALL, "nat-a": PORT_RESTRICTED, "wall-b": FIREWALL},
        link=Link(delay=0.025),
        components=2,
        load=3.0,
    ),
    "two components do not freeze each other behind a carrier": Scenario(
        seed=0,
        sides=(
            Side(role=Role.CONTROLLING, places=(Place(nats=("home-a", "carrier")),)),
            Side(role=Role.CONTROLLED, places=(Place(nats=("nat-b",)),), tcp_types=(TcpType.PASSIVE,)),
        ),
        nats={"carrier": ADDRESS_RESTRICTED, "home-a": ADDRESS_RESTRICTED, "nat-b": SYMMETRIC},
        link=Link(delay=0.5),
        components=2,
        load=3.0,
    ),
    "a component thaws after the other one has concluded": Scenario(
        seed=262,
        sides=(
            Side(role=Role.CONTROLLED, places=(Place(nats=("nat-a",)),), transports=(Transport.UDP,)),
            Side(role=Role.CONTROLLING, places=(Place(nats=("nat-b",)),), transports=(Transport.UDP,)),
        ),
        nats={"nat-a": ADDRESS_RESTRICTED, "nat-b": SYMMETRIC_BY_ADDRESS},
        link=Link(delay=0.025),
        components=2,
        load=3.0,
    ),
    "the patience timer does not end the reopening of a lost connection": Scenario(
        seed=2,
        sides=(
            Side(role=Role.CONTROLLING, places=(Place(),), transports=(Transport.TCP,)),
            Side(
                role=Role.CONTROLLING,
                places=(Place(nats=("nat-b",)),),
                transports=(Transport.TCP,),
                behaviour=Behaviour(interval=0.2, size=1200, backlog=100000),
                manners=Manners(timer_lateness=0.03, read_delay=0.002),
            ),
        ),
        nats={"nat-b": SYMMETRIC_SEQUENTIAL},
        link=Link(delay=0.1),
        fault=Fault.PEER_VANISHES,
        load=3.0,
    ),
    "a lite agent takes a reopened connection": Scenario(
        seed=0,
        sides=(
            Side(
                role=Role.CONTROLLED,
                places=(Place(),),
                transports=(Transport.TCP,),
                tcp_types=(TcpType.PASSIVE,),
                lite=True,
            ),
            Side(role=Role.CONTROLLING, places=(Place(),), transports=(Transport.TCP,)),
        ),
        nats={},
        link=Link(delay=0.025),
        fault=Fault.RESET_TCP,
        load=3.0,
    ),
    "no connection outlives the conclusion": Scenario(
        seed=0,
        sides=(
            Side(role=Role.CONTROLLED, places=(Place(nats=("home",)),)),
            Side(role=Role.CONTROLLING, places=(Place(nats=("home",)),)),
        ),
        nats={"home": PORT_RESTRICTED},
        link=Link(delay=0.1),
        load=3.0,
    ),
    "the idle timer leaves a selected connection alone": Scenario(
        seed=66,
        sides=(
            Side(role=Role.CONTROLLED, places=(Place(),), transports=(Transport.TCP,), latency=Latency(base=0.2)),
            Side(
                role=Role.CONTROLLED,
                places=(Place(nats=("nat-b",)),),
                transports=(Transport.TCP,),
                tcp_types=(TcpType.SO,),
                manners=Manners(timer_lateness=0.002, read_delay=0.002, chunking="bytes"),
            ),
        ),
        nats={"nat-b": FULL_CONE},
        link=Link(delay=0.025),
        load=3.0,
    ),
    "a failed agent does not let its peer win back a dead session for ever": Scenario(
        seed=0,
        sides=(
            Side(role=Role.CONTROLLING, places=(Place(),), transports=(Transport.TCP,)),
            Side(role=Role.CONTROLLED, places=(Place(nats=("nat-b",)),), transports=(Transport.TCP,)),
        ),
        nats={"nat-b": NOT_PRESERVING},
        link=Link(delay=0.5),
        fault=Fault.NAT_REBOOT,
        load=3.0,
    ),
    "the old path stays until the restarted peer knows the new credentials": Scenario(
        seed=0,
        sides=(
            Side(
                role=Role.CONTROLLING,
                places=(Place(),),
                behaviour=Behaviour(interval=0.2, size=100, read_rate=40000.0),
                latency=Latency(base=0.2, jitter=0.0, restart=33.0),
            ),
            Side(
                role=Role.CONTROLLED,
                places=(Place(),),
                taken=(Transport.UDP,),
                behaviour=Behaviour(interval=0.2, size=100, backlog=2000000),
            ),
        ),
        nats={},
        link=Link(delay=0.04),
        fault=Fault.RESTART,
        fault_side=1,
        load=3.0,
    ),
    "a relay is not nominated while the peer may yet connect to a passive candidate": Scenario(
        seed=1007610,
        sides=(
            Side(
                role=Role.CONTROLLED,
                places=(Place(),),
                transports=(Transport.TCP,),
                tcp_types=(TcpType.ACTIVE,),
                proposed_pacing=0.05,
            ),
            Side(
                role=Role.CONTROLLING,
                places=(Place(), Place(isolated=True)),
                transports=(Transport.TCP,),
                ghost=True,
                asks=(Ask("s1", Scheme.TURNS, Transport.TCP, port=443), Ask("s1")),
            ),
        ),
        nats={},
        link=Link(delay=0.0005),
        servers={"s1": ServerKind(secure_port=443, delay=0.002)},
        components=2,
        load=3.0,
    ),
    "an answer to a restart that has failed does not begin it anew": Scenario(
        seed=0,
        sides=(
            Side(
                role=Role.CONTROLLING,
                places=(Place(nats=("nat-a",)),),
                transports=(Transport.TCP,),
                asks=(
                    Ask("s3"),
                    Ask("s1", transport=Transport.TCP),
                    Ask("s3", Scheme.TURNS, Transport.TCP, port=443),
                ),
                latency=Latency(restart=33.0),
            ),
            Side(
                role=Role.CONTROLLING,
                places=(Place(),),
                transports=(Transport.TCP,),
                asks=(
                    Ask("s2", transport=Transport.TCP),
                    Ask("s3"),
                    Ask("s3", Scheme.TURNS, Transport.TCP, port=443),
                ),
                relay_only=True,
                latency=Latency(restart=33.0),
            ),
        ),
        nats={"nat-a": NOT_PRESERVING},
        link=Link(delay=0.025),
        servers={
            "s1": ServerKind(families=(4, 6), delay=0.05),
            "s2": ServerKind(families=(4, 6), twofold=True, secure_port=443, udp_relay=False, delay=0.05),
            "s3": ServerKind(families=(4, 6), twofold=True, secure_port=443, delay=0.002),
        },
        fault=Fault.ADDRESS_GONE,
        load=3.0,
    ),
}


@pytest.mark.parametrize("finding", FOUND)
def test_stays_mended(finding: str) -> None:
    assert run_scenario(FOUND[finding]).failure is None
