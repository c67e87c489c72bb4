"""The core agent as a shell knows it: misuse, dead ids, closing, and what the shell must bring."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from random import Random

import pytest

import ice_tcp.agent
import ice_tcp.driver
from candidates.candidate import InterfaceAddress, TcpType
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Close,
    Command,
    Failure,
    ListenerId,
    OpenUdp,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
    Use,
)
from ice_tcp.core.events import AgentState, Role, StateChanged
from ice_tcp.core.pacing import Pacer
from tests.core.net import (
    AWAY,
    HOME,
    LITE,
    UDP_ONLY,
    Net,
    Node,
    address,
    policy,
    tcp_candidate,
    udp_candidate,
)
from tests.core.peer import PARAMETERS, Peer

# -- misuse by the caller


@pytest.mark.parametrize("components", [0, -1, 257])
def test_the_number_of_components_is_checked(components: int) -> None:
    """RFC 8445 s5.1.2.1: 1 to 256."""
    with pytest.raises(ValueError, match="1 to 256"):
        Agent(Role.CONTROLLING, UDP_ONLY, rng=Random(1), pacer=Pacer(), components=components)


CALLS: dict[str, Callable[[Agent, float], None]] = {
    "gather": lambda agent, now: agent.gather([InterfaceAddress("eth0", HOME)], now),
    "set_remote_parameters": lambda agent, now: agent.set_remote_parameters(PARAMETERS, now),
    "add_remote_candidate": lambda agent, now: agent.add_remote_candidate(udp_candidate(), now),
    "end_of_candidates": lambda agent, now: agent.end_of_candidates(now),
    "start_checks": lambda agent, now: agent.start_checks(now),
    "restart": lambda agent, now: agent.restart(now),
}


@pytest.mark.parametrize("call", CALLS)
def test_calls_after_close_raise(call: str) -> None:
    """Misuse by the caller raises; bytes of the network never do."""
    net = Net()
    node = net.node()
    node.gather()
    node.close()
    with pytest.raises(RuntimeError, match="closed"):
        CALLS[call](node.agent, net.now)
    assert node.agent.commands() == []


def test_close_may_be_called_again() -> None:
    node = Net().node()
    node.gather()
    node.close()
    node.close()
    assert node.all_events(StateChanged) == [StateChanged(AgentState.CLOSED)]


def test_start_checks_may_be_called_again() -> None:
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate())
    node.start()
    net.run(0.1)
    assert len(node.new_requests) == 1


def test_commands_and_events_are_given_once() -> None:
    net = Net()
    agent = Agent(Role.CONTROLLING, UDP_ONLY, rng=Random(1), pacer=Pacer())
    agent.gather([InterfaceAddress("eth0", HOME)], net.now)
    assert [type(command) for command in agent.commands()] == [OpenUdp]
    assert agent.commands() == []
    agent.socket_opened(SocketId(1), address(HOME, 1024), net.now)
    assert len(agent.events()) == 2
    assert agent.events() == []


# -- inputs that come too late or for nobody


def late_inputs(agent: Agent, handle: int, message: bytes, now: float) -> None:
    """Everything that a shell may still have in its hands for a handle."""
    away = address(AWAY, 5000)
    agent.socket_opened(SocketId(handle), address(HOME, 1024), now)
    agent.socket_opened(ListenerId(handle), address(HOME, 1024), now)
    agent.socket_failed(SocketId(handle), Failure.OTHER, now)
    agent.datagram_received(SocketId(handle), away, message, now)
    agent.stream_connected(StreamId(handle), address(HOME, 1025), now)
    agent.stream_received(StreamId(handle), message, now)
    agent.stream_closed(StreamId(handle), now)
    agent.stream_failed(StreamId(handle), Failure.RESET, now)
    assert agent.stream_accepted(ListenerId(handle), away, now) is None


@pytest.mark.parametrize("handle", [0, 7, 10**9, -1])
def test_inputs_for_numbers_that_were_never_issued_are_ignored(handle: int) -> None:
    node = Net().node()
    node.gather()
    late_inputs(node.agent, handle, Peer(node).request(), node.net.now)
    assert not node.agent.commands() and not node.agent.events()


@pytest.mark.parametrize("handle", range(12))
def test_inputs_after_close_are_ignored(handle: int) -> None:
    net = Net()
    one, other = connected(net)
    request = Peer(one).request()
    one.close()
    late_inputs(one.agent, handle, request, net.now)
    one.agent.timer_expired(net.now + 100)
    assert not one.agent.commands() and not one.agent.events()
    assert one.agent.next_timer() is None
    assert other.is_in(AgentState.COMPLETED)


def test_inputs_for_a_connection_that_ended_are_ignored() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["tcp"], tcp_types=["passive"]))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    node.ends(path.stream)
    node.receive(path, peer.request())
    node.do(lambda now: node.agent.stream_failed(path.stream, Failure.RESET, now))
    assert node.sent == []


def test_inputs_for_an_attempt_that_was_given_up_are_ignored() -> None:
    net = Net()
    node = net.node(policy=policy(transports=["tcp"], tcp_types=["active"]))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(0)
    (stream,) = node.dialling
    node.restart()
    assert Close(stream) in node.all_commands(Close)
    node.do(lambda now: node.agent.stream_connected(stream, address(HOME, 1025), now))
    node.do(lambda now: node.agent.stream_failed(stream, Failure.REFUSED, now))
    assert node.requests == []


def test_an_early_timer_does_no_harm() -> None:
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate())
    net.run(0)
    node.do(node.agent.timer_expired)
    assert len(node.requests) == 1


# -- closing


def connected(net: Net) -> tuple[Node, Node]:
    one = net.node(policy=policy())
    other = net.node(Role.CONTROLLED, policy(), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    assert one.is_in(AgentState.COMPLETED)
    return one, other


def fresh(net: Net) -> Node:
    return net.node(policy=policy())


def gathering(net: Net) -> Node:
    node = net.node(policy=policy(), opens_sockets=False)
    node.gather()
    return node


def gathered(net: Net) -> Node:
    node = net.node(policy=policy())
    node.gather()
    return node


def checking(net: Net) -> Node:
    node = gathered(net)
    Peer(node).introduce(
        udp_candidate(),
        tcp_candidate(TcpType.PASSIVE, 6000),
        tcp_candidate(TcpType.SO, 6001, foundation="3"),
    )
    net.run(0.5)
    assert len(node.dialling) == 2
    return node


def accepting(net: Net) -> Node:
    node = gathered(net)
    node.accept(node.listener(TcpType.PASSIVE), address(AWAY, 50_000))
    node.accept(node.listener(TcpType.SO), address(AWAY, 50_001))
    return node


def completed(net: Net) -> Node:
    return connected(net)[0]


def released(net: Net) -> Node:
    node = completed(net)
    net.run(5)
    return node


def restarting(net: Net) -> Node:
    node = released(net)
    node.restart()
    node.know(PARAMETERS)
    node.hear_of(tcp_candidate(TcpType.PASSIVE), tcp_candidate(TcpType.SO, 6001))
    net.run(1)
    return node


def reopening(net: Net) -> Node:
    net.loses = lambda flight: isinstance(flight.path, UdpPath)
    node = completed(net)
    net.run(5)
    assert isinstance(node.used, TcpPath)
    node.break_stream()
    net.run(0.015)
    return node


def failed(net: Net) -> Node:
    node = checking(net)
    net.run(90)
    assert node.is_in(AgentState.FAILED)
    return node


def lite(net: Net) -> Node:
    node = net.node(Role.CONTROLLED, LITE)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    peer.asks(peer.udp_path(), use_candidate=True)
    return node


SITUATIONS = (
    fresh, gathering, gathered, checking, accepting, completed, released, restarting, reopening, failed, lite
)  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_closing_closes_everything_that_was_opened_and_does_nothing_else(situation: Callable[[Net], Node]) -> None:
    net = Net()
    node = situation(net)
    opened = node.opened()
    before = len(node.commands)
    node.close()
    commands: list[Command] = [command for _, command in node.commands[before:]]
    closed = [command.handle for command in commands if isinstance(command, Close)]
    assert sorted(closed) == sorted(opened)
    assert all(isinstance(command, Close) or command == Use(1, None) for command in commands)
    assert node.opened() == set()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_after_closing_nothing_follows(situation: Callable[[Net], Node]) -> None:
    net = Net()
    node = situation(net)
    node.close()
    assert node.states[-1] == (AgentState.CLOSED, None)
    assert node.agent.next_timer() is None
    assert node.agent.selected_path() is None
    done = len(node.commands), len(node.events)
    net.run(120)
    assert (len(node.commands), len(node.events)) == done


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_command_names_what_is_not_open(situation: Callable[[Net], Node]) -> None:
    """The harness would fail on a message to a dead socket; this is about the Close of dead numbers."""
    net = Net()
    node = situation(net)
    node.close()
    closed = [command.handle for command in node.all_commands(Close)]
    assert len(closed) == len(set(closed))


# -- determinism and randomness


def test_the_same_seed_gives_the_same_session() -> None:
    """Time and randomness are arguments: a failing simulation replays from its seed."""

    def session() -> list[object]:
        net = Net()
        one = net.node(policy=policy(), seed=7)
        other = net.node(Role.CONTROLLED, policy(), hosts=[AWAY], seed=8)
        net.meet(one, other)
        net.run(30)
        return [*one.commands, *one.events, *other.commands, *other.events]

    assert session() == session()


def test_the_shell_brings_the_systems_randomness(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7675 s8: transaction ids must be cryptographically strong, so ``random.SystemRandom`` makes them."""
    given: list[random.Random] = []
    genuine = ice_tcp.driver.open_session

    def spy(role: Role, policy: object, **how: object) -> object:
        assert isinstance(how["rng"], random.Random)
        given.append(how["rng"])
        return genuine(role, policy, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(ice_tcp.agent, "open_session", spy)

    async def make() -> None:
        async with ice_tcp.agent.Agent(Role.CONTROLLING):
            pass

    asyncio.run(make())
    assert [type(rng) for rng in given] == [random.SystemRandom]


# -- two agents, whatever the order of messages


def test_messages_may_be_reordered() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.hold = True
    net.meet(one, other)
    rng = Random(3)
    for _ in range(300):
        net.run(0.02)
        flights = [flight for flight in net.flying if flight.data is not None]
        rng.shuffle(flights)
        for flight in flights[: rng.randrange(3)]:
            net.deliver(flight)
    assert one.state is other.state is AgentState.COMPLETED


def test_messages_may_be_doubled() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.hold = True
    net.meet(one, other)
    for _ in range(100):
        net.run(0.01)
        for flight in list(net.flying):
            flight.arrive()
            net.deliver(flight)
    assert one.state is other.state is AgentState.COMPLETED
    assert len(one.agent.pair_statistics()) == len(other.agent.pair_statistics()) == 1


@pytest.mark.parametrize("seed", range(10))
def test_a_fifth_of_all_messages_may_be_lost(seed: int) -> None:
    net = Net()
    rng = Random(seed)
    net.loses = lambda _: rng.random() < 0.2
    one, other = net.node(seed=seed), net.node(Role.CONTROLLED, hosts=[AWAY], seed=seed + 100)
    net.meet(one, other)
    net.run(40)
    for node in (one, other):
        assert (AgentState.COMPLETED, None) in node.states
        assert node.used is not None


def test_a_message_that_was_dropped_is_repeated() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.hold = True
    net.meet(one, other)
    net.run(0.01)
    for flight in list(net.flying):
        net.drop(flight)
    net.hold = False
    net.run(1)
    assert one.state is other.state is AgentState.COMPLETED
