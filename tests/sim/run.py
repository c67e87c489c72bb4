"""Runs one seed: connect, load, fault, close; and checks every property on the way."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from ice_tcp.core.commands import TcpPath
from ice_tcp.core.events import AgentState
from tests.sim.build import Peer, Session, build
from tests.sim.oracle import Outlook, outlook
from tests.sim.paths import relays_for
from tests.sim.properties import (
    check_closed,
    check_data,
    check_direct,
    check_flow,
    check_held,
    check_lost,
    check_outcome,
    check_released,
    check_same_pair,
    check_unused,
    concluded,
    require,
)
from tests.sim.relays import returning, without
from tests.sim.scenario import Fault, Scenario, Side
from tests.sim.seeds import draw_scenario
from tests.sim.server import SimServer
from tests.sim.watch import PropertyError
from tests.sim.world import World

CONCLUSION_TIMEOUT = 200.0
"""Seconds: the longest start, both patience timers, a connect and a check that nobody answers, one after another."""
LINGER = 4.0
LOSS_TIMEOUT = 80.0
"""Seconds in which a vanished peer is noticed: consent, or 30 s of reopening after what TCP needs to notice."""
RESTART_TIMEOUT = 220.0
RELAY_TIMEOUT = 220.0
REOPEN_TIMEOUT = 45.0
LONG_REOPEN_TIMEOUT = 150.0
"""Seconds: where chance decides a connection may come and go several times before it is won or given up."""
DRAIN_TIMEOUT = 40.0
DELETE_TIMEOUT = 2.1
"""Seconds that an agent tries to delete its allocations when it closes."""
ORPHAN_TIMEOUT = 150.0
FORGOTTEN_TIMEOUT = 800.0
"""Seconds until a server drops what a client left that could not say goodbye: a lifetime, and idle connections."""
SILENT = (Fault.ADDRESS_GONE, Fault.NAT_REBOOT, Fault.PEER_VANISHES)


@dataclass(slots=True)
class Result:
    """What came of a seed."""

    seed: int
    scenario: Scenario
    failure: str | None = None
    outlook: Outlook = Outlook.PERHAPS
    connected: bool = False
    events: Counter[str] = field(default_factory=Counter)
    ladder: list[str] = field(default_factory=list)


def run_seed(seed: int, *, traced: bool = False) -> Result:
    """Run the scenario of a seed; never raises for what the agents do."""
    return run_scenario(draw_scenario(seed), traced=traced)


def run_scenario(scenario: Scenario, *, traced: bool = False) -> Result:
    """Run a scenario; a property that fails, or an exception of the core, is the result's ``failure``."""
    world = World(scenario.seed, traced=traced)
    result = Result(scenario.seed, scenario, outlook=outlook(scenario))
    run = Run(world, scenario, result)
    try:
        run.all()
    except PropertyError as error:
        result.failure = str(error)
    except Exception:  # noqa: BLE001 - whatever comes out of the core is a finding of this seed
        result.failure = "exception: " + traceback.format_exc()
    result.events = world.events
    result.ladder = world.ladder
    return result


class Run:
    """The phases of one run."""

    def __init__(self, world: World, scenario: Scenario, result: Result) -> None:
        self._world = world
        self._clock = world.clock
        self._scenario = scenario
        self._result = result
        self._rng = Random(f"{scenario.seed}/faults")
        self._sessions: list[Session] = []
        self._held_since = 0.0
        self._linger = LINGER + (DELETE_TIMEOUT if scenario.servers else 0.0)

    def all(self) -> None:
        self._sessions = build(self._scenario, self._world)
        self._connect()
        self._result.connected = all(peer.state is AgentState.COMPLETED for peer in self._peers())
        if self._result.connected:
            self._load()
            self._fault()
        elif self._result.outlook is Outlook.NONE and self._scenario.fault is Fault.RESTART:
            self._try_again()
        self._close()

    def _peers(self) -> list[Peer]:
        return [peer for session in self._sessions for peer in session.peers]

    @property
    def _servers(self) -> list[SimServer]:
        return self._sessions[0].servers

    def _until(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Run until ``holds`` or for ``timeout`` seconds; whether it holds."""
        return holds() or self._clock.run(self._clock.now + timeout, holds) or holds()

    def _for(self, seconds: float) -> None:
        self._clock.run(self._clock.now + seconds)

    # -- phases ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        for peer in self._peers():
            self._clock.at(peer.side.starts_at, peer.start)
        self._until(lambda: all(concluded(peer) for peer in self._peers()), CONCLUSION_TIMEOUT)
        self._for(self._linger)
        for session in self._sessions:
            check_outcome(session, self._result.outlook, self._scenario.components)

    def _try_again(self) -> None:
        """A restart leads out of FAILED (RFC 8445 s9), if only into it again."""
        for session in self._sessions:
            first = session.peers[self._scenario.fault_side]
            first.shell.input(first.shell.agent.restart)
        again = self._until(
            lambda: all(peer.shell.agent.generation > 0 and concluded(peer) for peer in self._peers()), RESTART_TIMEOUT
        )
        require(again, "restart: a failed session neither failed again nor connected")
        for session in self._sessions:
            check_outcome(session, self._result.outlook, self._scenario.components)

    def _load(self) -> None:
        self._for(self._scenario.load)
        for session in self._sessions:
            check_released(session, self._scenario.components)
            check_held(session)
            check_same_pair(session, self._scenario.components)

    def _fault(self) -> None:
        session = self._sessions[0]
        match self._scenario.fault:
            case Fault.RESTART | Fault.RESTART_BOTH as fault:
                self._restart(session, both=fault is Fault.RESTART_BOTH)
            case Fault.RESET_TCP:
                self._reset(session)
            case Fault.ADDRESS_GONE:
                self._lose_address(session)
            case Fault.NAT_REBOOT:
                self._reboot(session)
            case Fault.PEER_VANISHES | Fault.CLOSE as fault:
                self._leave(session, silently=fault is Fault.PEER_VANISHES)
            case Fault.SERVER_DIES | Fault.SERVER_RESTARTS as fault:
                self._kill_server(session, returns=fault is Fault.SERVER_RESTARTS)
            case Fault.NONE:
                self._drain()

    def _drain(self) -> None:
        """Stop sending; whatever is under way arrives."""
        components = range(1, self._scenario.components + 1)
        for peer in self._peers():
            peer.chatter.stop()

        def quiet() -> bool:
            return not any(
                peer.chatter.due(component) for peer in self._peers() for component in components
            ) and not any(stream.path.pending for peer in self._peers() for stream in peer.shell.streams.values())

        if self._until(quiet, DRAIN_TIMEOUT):
            self._for(15.0)
            for session in self._sessions:
                check_data(session, self._scenario.components)
        for session in self._sessions:
            check_held(session, self._held_since)

    # -- faults ------------------------------------------------------------------------------------------------

    def _restart(self, session: Session, *, both: bool) -> None:
        """ICE restarts while data flows (RFC 8445 s9)."""
        for peer in session.peers:
            peer.chatter.watching_silence = True
        first = session.peers[self._scenario.fault_side]
        first.shell.input(first.shell.agent.restart)
        if both:
            other = session.peers[1 - self._scenario.fault_side]
            self._for(self._rng.choice((0.0, 0.02, 0.1)))
            if other.shell.agent.generation == 0:
                other.shell.input(other.shell.agent.restart)
        self._world.events["restart-under-load"] += 1

        def done() -> bool:
            return all(_restarted(peer, self._scenario.components) for peer in session.peers)

        if not self._until(done, RESTART_TIMEOUT):
            failed = any(peer.restarts_failed for peer in session.peers)
            slow = any(side.latency.restart for side in self._scenario.sides)
            expected = outlook(self._scenario, together=not slow)
            require(failed and expected is Outlook.PERHAPS, f"restart: {_where(session)}")
            return
        if any(_reads_slowly(side) for side in self._scenario.sides):
            self._held_since = self._clock.now
        self._for(self._linger)
        check_same_pair(session, self._scenario.components)
        check_released(session, self._scenario.components)
        check_held(session, self._held_since)
        if self._scenario.link.loss < 0.02:
            bounds = tuple(_silence_allowed(peer, self._scenario) for peer in session.peers[::-1])
            check_flow(session, self._scenario.components, (bounds[0], bounds[1]))
        self._drain()

    def _reset(self, session: Session) -> None:
        """Both ends of a selected TCP connection get an RST (RFC 6544 s11.1)."""
        peer, other = session.peers[self._scenario.fault_side], session.peers[1 - self._scenario.fault_side]
        path, others = peer.shell.used[1], other.shell.used[1]
        if not isinstance(path, TcpPath) or not isinstance(others, TcpPath):
            self._drain()
            return
        self._world.events["selected-reset"] += 1
        for shell, handle in ((peer.shell, path.stream), (other.shell, others.stream)):
            socket = shell.streams[handle].socket
            assert socket is not None
            socket.break_by_rst()
        if self._result.outlook is not Outlook.DIRECT:
            self._for(LONG_REOPEN_TIMEOUT)
            require(all(concluded(each) for each in session.peers), f"reopen: {_where(session)}")
            return
        back = self._until(lambda: all(each.state is AgentState.COMPLETED for each in session.peers), REOPEN_TIMEOUT)
        require(back, f"reopen: {_where(session)}")
        self._for(self._linger)
        check_same_pair(session, self._scenario.components)

    def _lose_address(self, session: Session) -> None:
        """The interface of the selected path goes away."""
        peer = session.peers[self._scenario.fault_side]
        selected = peer.shell.agent.selected_path(1)
        assert selected is not None
        address = peer.shell.local_host(selected.path)
        if self._scenario.same_host:
            return  # what a host sends to itself needs no interface
        peer.shell.host.lose_address(address)

        def over() -> bool:
            return all(each.state is AgentState.FAILED or each.side.lite for each in session.peers) or all(
                _renewed(each) for each in session.peers
            )

        self._until(over, LOSS_TIMEOUT + (RESTART_TIMEOUT if session.servers else 0.0))
        if all(_renewed(each) for each in session.peers):
            # A relay was missed, and its owner has a second address
            require(peer.shell.local_host(peer.shell.used[1]) != address, f"loss: {peer.shell.name} uses {address}")
            return
        for each in session.peers:
            check_lost(each)

    def _reboot(self, session: Session) -> None:
        """A NAT forgets everything: some paths survive, others end; either way the agents know."""
        if not self._world.nats:
            return
        self._rng.choice(self._world.nats).reboot()
        self._for(LOSS_TIMEOUT)
        for peer in session.peers:
            require(concluded(peer), f"reboot: {_where(session)}")

    def _leave(self, session: Session, *, silently: bool) -> None:
        """One side goes, with or without a word."""
        peer, other = session.peers[self._scenario.fault_side], session.peers[1 - self._scenario.fault_side]
        peer.chatter.stop()
        if silently:
            peer.shell.die()
        else:
            peer.shell.close()
        timeout = LOSS_TIMEOUT + (RESTART_TIMEOUT if session.servers else 0.0)
        self._until(lambda: other.state is AgentState.FAILED or other.side.lite, timeout)
        check_lost(other)

    def _kill_server(self, session: Session, *, returns: bool) -> None:
        """A server ends, perhaps the one that relays, and perhaps it comes back soon, with nothing remembered."""
        used = [server for server in session.servers if relays_for(session, server, self._scenario.components)]
        server = self._rng.choice(used or session.servers)
        if not server.is_up:
            self._drain()
            return
        server.stop(silently=self._rng.random() < 0.5)
        self._world.events["relay-dies" if used else "server-dies"] += 1
        if returns:
            self._clock.after(self._rng.uniform(0.2, 2.0), server.start)
        if not used:
            self._drain()
            return
        left = returning(self._scenario, server.name) if returns else without(self._scenario, server.name)
        slow = any(side.latency.restart for side in self._scenario.sides)
        expected = Outlook.PERHAPS if slow else outlook(left)
        back = self._until(lambda: all(_renewed(peer) for peer in session.peers), RELAY_TIMEOUT)
        if back:
            self._world.events["relay-replaced"] += 1
            self._for(self._linger)
            check_same_pair(session, self._scenario.components)
            check_direct(session, expected, self._scenario.components)
        else:
            require(not expected.connects, f"server: nothing replaces {server.name}, {_where(session)}")
            require(slow or all(concluded(peer) for peer in session.peers), f"server: {_where(session)}")

    # -- the end -----------------------------------------------------------------------------------------------

    def _close(self) -> None:
        for peer in self._peers():
            peer.chatter.stop()
            if not peer.shell.dead:
                peer.shell.close()
        self._until(lambda: not any(peer.shell.agent.closing for peer in self._peers()), DELETE_TIMEOUT)
        for peer in self._peers():
            if not peer.shell.dead:
                check_closed(peer)
        self._for(ORPHAN_TIMEOUT)
        if self._scenario.fault in SILENT or self._scenario.link.loss:
            self._until(lambda: not any(server.in_use for server in self._servers), FORGOTTEN_TIMEOUT)
        for server in self._servers:
            check_unused(server)
            if server.is_up:
                server.stop()
        for host in self._world.hosts:
            require(not host.open_sockets, f"close: {host.name} has {host.open_sockets}")


def _restarted(peer: Peer, components: int) -> bool:
    agent = peer.shell.agent
    paths = [agent.selected_path(component) for component in range(1, components + 1)]
    return agent.state is AgentState.COMPLETED and all(
        path is not None and path.nominated and path.generation == agent.generation > 0 for path in paths
    )


def _renewed(peer: Peer) -> bool:
    """As after a restart; a component that was not hurt may still use its old path."""
    return peer.shell.agent.generation > 0 and peer.state is AgentState.COMPLETED


def _reads_slowly(side: Side) -> bool:
    return side.behaviour.read_rate is not None or side.behaviour.pause is not None


def _silence_allowed(sender: Peer, scenario: Scenario) -> float:
    """Seconds between two messages of ``sender`` at the most; a slow reader or a queue may make it longer."""
    if any(_reads_slowly(side) for side in scenario.sides) or sender.side.behaviour.backlog:
        return float("inf")
    return 5 * sender.side.behaviour.interval + 3.0 + 8 * scenario.link.delay


def _where(session: Session) -> str:
    return ", ".join(
        f"{peer.shell.name} is {peer.state} ({peer.verdict}), generation {peer.shell.agent.generation}"
        for peer in session.peers
    )
