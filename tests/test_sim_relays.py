"""What servers are for, each in a scenario of its own: the last resort, at once, for hours, and whatever dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from candidates.candidate import Candidate, CandidateType, TcpType, Transport
from candidates.policy.servers import Scheme
from ice_tcp.core.events import AgentState, MappingBehaviour, Role
from ice_tcp.core.verdicts import Verdict
from tests.sim.application import Behaviour
from tests.sim.build import Peer, Session, build
from tests.sim.nat import FULL_CONE, NOT_PRESERVING, PORT_RESTRICTED, SYMMETRIC, NatKind
from tests.sim.network import Link
from tests.sim.oracle import Outlook, outlook
from tests.sim.properties import check_same_pair
from tests.sim.run import run_scenario
from tests.sim.scenario import Fault, Place, Scenario, Side
from tests.sim.serverkinds import Ask, Condition, ServerKind
from tests.sim.signaling import Latency
from tests.sim.world import World

DELAY = 0.02
"""Seconds from a NAT to the middle of the Internet, and from there to a server."""
ROUND_TRIP = 4 * DELAY + 4e-4
"""... to a server and back."""
SIGNALING = 0.01
STEPS = 0.15
"""Seconds for everything else on the way to a relayed path: opening sockets, a name, and the slots of the pace."""

BY_UDP = Ask("s1", transport=Transport.UDP)
BY_TCP = Ask("s1", transport=Transport.TCP)
BY_TLS = Ask("s1", Scheme.TURNS, Transport.TCP, port=443)
ONLY_443 = replace(PORT_RESTRICTED, udp_blocked=True, only_ports=(443,))
NO_UDP = replace(PORT_RESTRICTED, udp_blocked=True)
SERVER = ServerKind(secure_port=443, delay=DELAY)
BOTH = (Transport.UDP, Transport.TCP)


def side(role: Role, nat: str, *asks: Ask, transports: tuple[Transport, ...] = BOTH, relay_only: bool = False,
         relay_grace: float | None = None, behaviour: Behaviour | None = None) -> Side:  # fmt: skip
    return Side(
        role=role,
        places=(Place((nat,)),),
        transports=transports,
        asks=asks,
        relay_only=relay_only,
        relay_grace=relay_grace,
        behaviour=behaviour or Behaviour(),
        latency=Latency(base=SIGNALING, jitter=0.0),
    )


def scenario(left: Side, right: Side, nats: tuple[NatKind, NatKind] = (SYMMETRIC, SYMMETRIC),
             servers: dict[str, ServerKind] | None = None, fault: Fault = Fault.NONE, load: float = 3.0,
             seed: int = 1) -> Scenario:  # fmt: skip
    return Scenario(
        seed=seed,
        sides=(left, right),
        nats={"nat-a": nats[0], "nat-b": nats[1]},
        link=Link(delay=DELAY),
        servers={"s1": SERVER} if servers is None else servers,
        fault=fault,
        load=load,
    )


def sides(*asks: Ask, transports: tuple[Transport, ...] = BOTH, relay_only: bool = False,
          behaviour: Behaviour | None = None) -> tuple[Side, Side]:  # fmt: skip
    """Both sides alike."""
    return (
        side(Role.CONTROLLING, "nat-a", *asks, transports=transports, relay_only=relay_only, behaviour=behaviour),
        side(Role.CONTROLLED, "nat-b", *asks, transports=transports, relay_only=relay_only, behaviour=behaviour),
    )


@dataclass
class Play:
    """A scenario that is watched while it goes on."""

    world: World
    session: Session

    @classmethod
    def of(cls, scenario: Scenario) -> Play:
        world = World(scenario.seed)
        (session,) = build(scenario, world)
        for peer in session.peers:
            world.clock.at(peer.side.starts_at, peer.start)
        return cls(world, session)

    def run(self, seconds: float) -> None:
        self.world.clock.run(self.world.clock.now + seconds)

    def until(self, holds: Callable[[Peer], bool], timeout: float = 60.0) -> float:
        """Run until ``holds`` for both peers; returns when that was."""
        clock = self.world.clock
        assert clock.run(clock.now + timeout, lambda: all(map(holds, self.session.peers)))
        return clock.now

    def sent(self) -> list[int]:
        """Messages of each peer."""
        return [sum(peer.chatter.sent.values()) for peer in self.session.peers]

    def got(self) -> list[int]:
        """Messages that came to each peer."""
        return [peer.chatter.messages_received for peer in self.session.peers]


def heard(peer: Peer) -> bool:
    return 1 in peer.chatter.last_received_at


def kept(result_of: Scenario) -> None:
    """Every property of a run holds."""
    result = run_scenario(result_of)
    assert result.failure is None
    assert result.connected


def test_the_missions_own_case() -> None:
    """Both peers behind symmetric NATs: UDP and TCP checks fail, the relay carries the data, the verdicts say why."""
    patient = side(Role.CONTROLLING, "nat-a", Ask("s1"), relay_grace=60.0)
    other = side(Role.CONTROLLED, "nat-b", Ask("s1"), relay_grace=60.0)
    case = scenario(patient, other)
    assert outlook(case) is Outlook.RELAY
    play = Play.of(case)
    assert play.until(heard) < 1.5
    assert [peer.state for peer in play.session.peers] == [AgentState.CONNECTED] * 2
    play.until(lambda peer: peer.state is AgentState.COMPLETED, 120.0)
    check_same_pair(play.session, 1)
    for peer in play.session.peers:
        direct = [each for each in peer.pairs.values() if not is_relayed(each.local) and not is_relayed(each.remote)]
        failed = {(each.local.transport, each.verdict) for each in direct}
        assert failed == {(Transport.UDP, Verdict.NO_RESPONSE), (Transport.TCP, Verdict.TIMED_OUT)}
        selected = peer.shell.agent.selected_path(1)
        assert selected is not None
        assert selected.is_relayed
        assert selected.nominated
    before = [peer.chatter.received_bytes[1] for peer in play.session.peers]
    play.run(5.0)
    assert all(peer.chatter.received_bytes[1] > was for peer, was in zip(play.session.peers, before, strict=True))


def is_relayed(candidate: Candidate) -> bool:
    return candidate.type is CandidateType.RELAY


def test_two_servers_show_a_symmetric_nat_and_then_the_relay_is_not_waited_for() -> None:
    play = Play.of(
        scenario(*sides(Ask("s1"), Ask("s2", Scheme.STUN)), servers={"s1": SERVER, "s2": ServerKind(delay=DELAY)})
    )
    assert play.until(lambda peer: peer.state is AgentState.COMPLETED) < 3.0
    for peer in play.session.peers:
        behaviours = set(peer.shell.agent.mapping_behaviours().values())
        assert behaviours == {MappingBehaviour.DEPENDENT}


@dataclass(frozen=True)
class Way:
    """A way to relay, and how many round trips to a server it may take."""

    sides: tuple[Side, Side]
    nats: tuple[NatKind, NatKind]
    round_trips: int
    wait: float = 0.0


WAYS = {
    "UDP by UDP": Way(sides(BY_UDP, transports=(Transport.UDP,)), (SYMMETRIC, SYMMETRIC), 6),
    "UDP by TCP": Way(sides(BY_TCP, transports=(Transport.UDP,)), (NO_UDP, SYMMETRIC), 7),
    "UDP by TLS": Way(sides(BY_TLS, transports=(Transport.UDP,)), (ONLY_443, ONLY_443), 8),
    "TCP by TCP": Way(sides(BY_TCP, transports=(Transport.TCP,)), (SYMMETRIC, SYMMETRIC), 9),
    "TCP by TLS": Way(sides(BY_TLS, transports=(Transport.TCP,)), (ONLY_443, ONLY_443), 13),
    "whatever there is": Way(sides(Ask("s1"), BY_TLS), (SYMMETRIC, ONLY_443), 9),
    "one relay, to a symmetric NAT": Way(
        (
            side(Role.CONTROLLING, "nat-a", BY_UDP, transports=(Transport.UDP,)),
            side(Role.CONTROLLED, "nat-b", Ask("s1", Scheme.STUN), transports=(Transport.UDP,)),
        ),
        (SYMMETRIC, SYMMETRIC),
        6,
        wait=0.5,  # the check that comes before the permission is sent once more
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_falling_back_takes_round_trips_and_no_time_outs(way: str) -> None:
    """From the start to the first byte of data: to the server and allocate, permission, check; all else is pace."""
    this = WAYS[way]
    case = scenario(*this.sides, nats=this.nats)
    assert outlook(case) is Outlook.RELAY
    assert Play.of(case).until(heard) <= this.round_trips * ROUND_TRIP + 3 * SIGNALING + STEPS + this.wait
    kept(case)


def test_a_dead_server_among_three_delays_nobody() -> None:
    live = {"s1": SERVER, "s2": SERVER}
    dead = {"s3": ServerKind(condition=Condition.OFF), **live}
    took = [
        Play.of(scenario(*sides(*(Ask(name) for name in servers)), servers=servers)).until(heard)
        for servers in (live, dead)
    ]
    assert took[1] - took[0] < 0.1  # what the pace takes for three more requests, and no time-out


def test_the_relay_carries_data_until_the_direct_path_is_there() -> None:
    """Both NATs drop what the other one sends before its own side has: a so pair needs a second SYN, a relay not."""
    slow = Latency(base=SIGNALING, jitter=0.0)
    left, right = sides(BY_TCP, transports=(Transport.TCP,))
    case = scenario(replace(left, latency=slow), right, nats=(NOT_PRESERVING, NOT_PRESERVING), load=12.0)
    assert outlook(case) is Outlook.DIRECT
    result = run_scenario(case)
    assert result.failure is None
    assert result.events["nominated direct tcp"] == 2


RELAYING = side(Role.CONTROLLED, "nat-b", BY_TCP, transports=(Transport.TCP,), relay_only=True)
SEEN = side(Role.CONTROLLING, "nat-a", Ask("s1", Scheme.STUN), transports=(Transport.TCP,))


def test_nobody_gives_up_at_a_relay_that_does_not_let_them_in_yet() -> None:
    """Who hears of a relay at once, and is heard of late, is turned away until there is a permission."""
    case = scenario(replace(SEEN, latency=Latency(base=0.5, jitter=0.0)), RELAYING)
    result = run_scenario(case)
    assert result.failure is None
    assert result.events["relay-refuses-peer"] > 0
    assert result.events["nominated relay tcp"] == 2


def test_a_relay_may_reopen_a_lost_connection_from_the_same_port() -> None:
    connecting = replace(RELAYING, role=Role.CONTROLLING, tcp_types=(TcpType.ACTIVE,))
    listening = replace(SEEN, role=Role.CONTROLLED)
    case = scenario(listening, connecting, nats=(FULL_CONE, SYMMETRIC), fault=Fault.RESET_TCP)
    result = run_scenario(case)
    assert result.failure is None
    assert result.events["selected-reset"] == 1
    assert result.events["relay-connects"] == 2


def test_relay_only_shows_nothing() -> None:
    """No socket, no listener, no other candidate, no related address: the watch of every run raises otherwise."""
    case = scenario(*sides(Ask("s1"), BY_TLS, relay_only=True), nats=(PORT_RESTRICTED, PORT_RESTRICTED))
    assert outlook(case) is Outlook.RELAY
    kept(case)


HOURS = {
    "UDP by UDP": sides(BY_UDP, transports=(Transport.UDP,), behaviour=Behaviour(interval=5.0)),
    "UDP by TLS": sides(BY_TLS, transports=(Transport.UDP,), behaviour=Behaviour(interval=5.0)),
    "TCP by TCP": sides(BY_TCP, transports=(Transport.TCP,), behaviour=Behaviour(interval=5.0)),
}
"""Each for an hour of virtual time."""


FORGETFUL = replace(NOT_PRESERVING, forgets_on_fin=True)
KEPT_OPEN = scenario(
    side(Role.CONTROLLING, "nat-a", Ask("s1", Scheme.STUN), transports=(Transport.TCP,)),
    replace(side(Role.CONTROLLED, "nat-b", Ask("s1", Scheme.STUN), transports=(Transport.TCP,)), starts_at=3.0),
    nats=(FORGETFUL, FORGETFUL),
)
"""One side waits for the other, behind NATs that forget a mapping with its last connection."""


def test_the_connection_to_a_stun_server_keeps_the_mapping_until_the_peer_comes() -> None:
    assert outlook(KEPT_OPEN) is Outlook.DIRECT
    kept(KEPT_OPEN)


@pytest.mark.parametrize("nonce_lifetime", [3600.0, 45.0])
@pytest.mark.parametrize("way", HOURS)
def test_an_hour(way: str, nonce_lifetime: float) -> None:
    """Allocation, permission and channel are refreshed in time, with nonces that go stale or not; nothing is lost."""
    play = Play.of(scenario(*HOURS[way], servers={"s1": replace(SERVER, nonce_lifetime=nonce_lifetime)}))
    play.until(lambda peer: peer.state is AgentState.COMPLETED)
    play.run(40.0)  # until the server has given up connections that came to nothing
    events, sent, got = Counter(play.world.events), play.sent(), play.got()
    play.run(3600.0)
    news = {event for event in play.world.events - events if event.startswith(("server", "state", "relay-"))}
    assert news == {"server-refused 438"}
    sent_since, got_since = (
        [now - before for now, before in zip(later, earlier, strict=True)]
        for later, earlier in ((play.sent(), sent), (play.got(), got))
    )
    assert all(count in range(3600 // 5 - 1, 3600 // 5 + 2) for count in sent_since)
    assert all(abs(a - b) <= 1 for a, b in zip(sent_since, reversed(got_since), strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["UDP by UDP", "UDP by TCP", "UDP by TLS", "TCP by TCP", "TCP by TLS"])
@pytest.mark.parametrize("fault", [Fault.SERVER_DIES, Fault.SERVER_RESTARTS])
def test_a_relay_that_dies_is_replaced(way: str, fault: Fault, seed: int) -> None:
    """By one at another server, or at the same when it is back."""
    left, right = WAYS[way].sides
    second = {each: replace(each, server="s2") for each in (BY_UDP, BY_TCP, BY_TLS)}
    servers = {"s1": SERVER}
    if fault is Fault.SERVER_DIES:
        servers["s2"] = SERVER
        left, right = (replace(each, asks=(*each.asks, *(second[ask] for ask in each.asks))) for each in (left, right))
    result = run_scenario(scenario(left, right, WAYS[way].nats, servers, fault, seed=seed))
    assert result.failure is None
    assert result.events["relay-dies"] == 1
    assert result.events["relay-replaced"] == 1
