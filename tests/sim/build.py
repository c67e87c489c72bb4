"""Builds the world of a scenario: realms, NATs, hosts, agents, signaling."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from candidates.candidate import InterfaceAddress
from ice_tcp.core import trace
from ice_tcp.core.agent import Agent
from ice_tcp.core.events import (
    AgentState,
    Event,
    GatheringDone,
    LocalCandidateFound,
    MappingFound,
    PairChanged,
    PathSelected,
    Restarted,
    RestartFailed,
    RoleChanged,
    SelectedPath,
    ServerReported,
    StateChanged,
)
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.verdicts import Verdict
from tests.sim.application import Chatter
from tests.sim.host import Host
from tests.sim.ladder import words
from tests.sim.names import Name
from tests.sim.network import Link, Realm
from tests.sim.scenario import PORTS_TAKEN, Place, Scenario, Side, policy_for
from tests.sim.server import SimServer
from tests.sim.serverkinds import DOMAIN, Condition, server_address
from tests.sim.shell import SimShell
from tests.sim.signaling import Signaling
from tests.sim.watch import AgentWatch, ProcessWatch
from tests.sim.world import World

LAN = Link(delay=1e-4)

GHOST = "192.0.2.77"
"""An address that the system listed and no longer has: nothing can be bound to it."""


@dataclass(eq=False)
class Peer:
    """One agent with its shell, application and way to the other."""

    shell: SimShell
    addresses: list[InterfaceAddress]
    side: Side
    chatter: Chatter
    signaling: Signaling | None = None
    states: list[tuple[float, AgentState, Verdict | None]] = field(default_factory=list)
    restarts_failed: int = 0
    pairs: dict[int, PairChanged] = field(default_factory=dict)
    """The last that was told of each pair."""
    relayed_at: dict[int, float] = field(default_factory=dict)
    """By component: when data could go by a relay for the first time."""

    @property
    def state(self) -> AgentState:
        return self.shell.agent.state

    @property
    def verdict(self) -> Verdict | None:
        """Why the state is what it is."""
        return self.states[-1][2] if self.states else None

    def start(self) -> None:
        """Gather, tell the peer the credentials, begin to check."""
        assert self.signaling is not None
        self.signaling.parameters(self.shell.agent.local_parameters)
        self.shell.gather(self.addresses)
        self.shell.input(self.shell.agent.start_checks)

    def on_event(self, event: Event) -> None:
        assert self.signaling is not None
        events = self.shell.world.events
        match event:
            case LocalCandidateFound():
                self.signaling.candidate(event)
            case GatheringDone():
                self.signaling.done(event)
            case Restarted():
                self.signaling.restarted(event)
            case StateChanged(state, verdict):
                self.states.append((self.shell.clock.now, state, verdict))
                events[f"state {state}"] += 1
            case PairChanged():
                self.pairs[event.pair] = event
            case PathSelected(selected):
                self._selected(selected)
            case ServerReported(report):
                if report.failure is not None:
                    events[f"server: {report.failure.cause}"] += 1
            case MappingFound(behaviour=behaviour):
                events["mapping dependent" if behaviour.is_dependent else f"mapping {behaviour}"] += 1
            case RoleChanged():
                events["role-conflict"] += 1
            case RestartFailed():
                self.restarts_failed += 1

    def _selected(self, selected: SelectedPath) -> None:
        events = self.shell.world.events
        if selected.is_relayed:
            self.relayed_at.setdefault(selected.component, self.shell.clock.now)
        if selected.nominated:
            self.shell.watch.confirmed(selected.path)
            kind = "relay" if selected.is_relayed else "direct"
            events[f"nominated {kind} {selected.local.transport}"] += 1
            if not selected.is_relayed and selected.component in self.relayed_at:
                events["relay then direct"] += 1


@dataclass(eq=False)
class Session:
    """Two agents that are to find each other."""

    left: Peer
    right: Peer
    servers: list[SimServer]

    @property
    def peers(self) -> tuple[Peer, Peer]:
        return self.left, self.right


class Builder:
    """Makes realms and NATs as places ask for them."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self._world = world
        self._scenario = scenario
        self._realms: dict[str, Realm] = {}
        self._numbers: Counter[str] = Counter()

    def hosts(self) -> list[Host]:
        """The machines of both sides; with one machine for both, it is there twice."""
        scenario = self._scenario
        hosts: list[Host] = []
        for name, side in zip("ab", scenario.sides, strict=True):
            if hosts and scenario.same_host:
                host = hosts[0]
            else:
                host = self._world.host(f"host-{name}", scenario.syn_schedule)
                for place in side.places:
                    self._attach(host, place)
            for transport in side.taken:
                host.taken.update((transport, port) for port in range(PORTS_TAKEN[0], PORTS_TAKEN[1] + 1))
            hosts.append(host)
        return hosts

    def servers(self) -> list[SimServer]:
        """The servers, each on a machine of its own, and their names."""
        world, servers = self._world, []
        for name, kind in self._scenario.servers.items():
            host = world.host(name)
            options = kind.options(name)
            for address in options.hosts:
                host.attach(world.internet, address, Link(delay=kind.delay))
            server = SimServer(name, world, host, options, kind.certificate(name))
            if kind.condition is Condition.RUNNING:
                server.start()
            elif kind.condition is Condition.OFF:
                server.stop(silently=True)
            servers.append(server)
            hosts = tuple(server_address(name, family) for family in kind.families)
            world.names.table[f"{name}.{DOMAIN}"] = Name(hosts)
        return servers

    def _attach(self, host: Host, place: Place) -> None:
        scenario = self._scenario
        if place.isolated:
            number = self._next("isolated")
            address = f"172.16.{number}.2" if place.family == 4 else f"fd00:{number}::2"
            host.attach(self._world.realm(f"island {number}"), address, LAN)
        elif not place.nats:
            host.attach(self._world.internet, self._public(place.family), scenario.link)
        elif not scenario.nats[place.nats[0]].translates:
            address = self._public(6)
            name = place.nats[0]
            kind = scenario.nats[name]
            host.attach(self._world.firewall(name, kind, self._world.internet, scenario.link, [address]), address, LAN)
        else:
            realm = self._behind(place.nats)
            host.attach(realm, self._private(realm), LAN)

    def _behind(self, nats: tuple[str, ...]) -> Realm:
        """The realm behind a row of NATs, the innermost first."""
        name = nats[0]
        if name not in self._realms:
            kind = self._scenario.nats[name]
            if len(nats) == 1:
                outer, public, link = self._world.internet, self._public(4), self._scenario.link
            else:
                outer, public, link = self._behind(nats[1:]), f"100.64.0.{self._next('carrier') + 1}", LAN
            self._realms[name] = self._world.nat(name, kind, public, outer, link)
        return self._realms[name]

    def _public(self, family: int) -> str:
        number = self._next(f"public {family}")
        return f"203.0.113.{number}" if family == 4 else f"2001:db8::{number}"

    def _private(self, realm: Realm) -> str:
        """The first machine of a home network often has the address of its neighbour's first machine."""
        if realm.name == "behind carrier":
            return f"100.64.0.{self._next('carrier') + 1}"
        network = 1 if self._scenario.same_private_addresses else list(self._realms.values()).index(realm) + 1
        return f"192.168.{network}.{self._next(realm.name) + 1}"

    def _next(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]


def build(scenario: Scenario, world: World) -> list[Session]:
    """Make everything; nothing starts yet."""
    builder = Builder(world, scenario)
    hosts, servers = builder.hosts(), builder.servers()
    processes = [(ProcessWatch(f"process {name}"), Pacer()) for name in "ab"]
    sessions = []
    for number in range(scenario.crowd):
        peers = []
        for index, side in enumerate(scenario.sides):
            name = f"{'ab'[index]}{number or ''}"
            peers.append(_peer(scenario, world, name, side, hosts[index], *processes[index]))
        session = Session(peers[0], peers[1], servers)
        for peer, other in (session.peers, session.peers[::-1]):
            rng = Random(f"{scenario.seed}/signaling/{peer.shell.name}")
            peer.signaling = Signaling(peer.shell, other.shell, peer.side.latency, rng, knows_nats=not servers)
        sessions.append(session)
    return sessions


def _peer(
    scenario: Scenario, world: World, name: str, side: Side, host: Host, process: ProcessWatch, pacer: Pacer
) -> Peer:
    policy = policy_for(side)

    watch = AgentWatch(name, process, policy, world.events)

    def sink(now: float, record: trace.Record) -> None:
        world.note(name, f"  {words(record)}") if world.observer else None
        match record:
            case trace.PeerReflexiveFound(remote=remote):
                world.events["peer-reflexive-remote" if remote else "peer-reflexive-local"] += 1
            case trace.AcceptWon():
                world.events["accept-wins"] += 1
            case trace.FreshPort():
                world.events["fresh-port"] += 1
            case trace.Reopening():
                world.events["reopening"] += 1
            case trace.ConsentChecked(path=path):
                watch.asks_consent(path)

    agent = Agent(
        side.role,
        policy,
        rng=Random(f"{scenario.seed}/agent/{name}"),
        pacer=pacer,
        components=scenario.components,
        trace=sink,
    )
    rng = Random(f"{scenario.seed}/shell/{name}")
    shell = SimShell(name, world, host, agent, policy, watch, side.manners, rng)
    addresses = [InterfaceAddress(f"eth{number}", address) for number, address in enumerate(host.attachments)]
    if side.ghost:
        addresses.insert(0, InterfaceAddress("gone0", GHOST))
    peer: Peer
    chatter = Chatter(shell, side.behaviour, lambda event: peer.on_event(event))
    peer = Peer(shell, addresses, side, chatter)
    shell.application = chatter
    return peer
