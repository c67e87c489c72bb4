"""The trace: typed records of what the core did and why, and never a secret."""

from __future__ import annotations

import dataclasses
import typing
from random import Random

import pytest

from candidates.candidate import InterfaceAddress, TcpType
from ice_tcp import stun
from ice_tcp.core import exchanges, trace
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import Connect, Failure, TcpPath
from ice_tcp.core.events import Restarted, Role
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import Record
from tests.core.net import AWAY, UDP_ONLY, Net, Node, policy, tcp_candidate, tcp_only
from tests.core.peer import Peer
from tests.core_servers.world import HOST, OTHER_HOST, OTHER_PORT, STUN, Nat, NatKind, World, served, turn

RECORDS: tuple[type[object], ...] = typing.get_args(Record)


def busy_session() -> tuple[Node, Node]:
    """Two nodes that meet over all transports, lose their path, restart and part."""
    net = Net()
    one = net.node(policy=policy())
    other = net.node(Role.CONTROLLED, policy(), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(20)
    one.restart()
    other.learn(one)
    one.learn(other)
    net.run(20)
    for node in (one, other):
        node.close()
    return one, other


@pytest.mark.parametrize("record", RECORDS)
def test_records_are_frozen_slotted_and_documented(record: type[object]) -> None:
    """CONVENTIONS 7."""
    assert dataclasses.is_dataclass(record)
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(record)
    assert record.__doc__ and not record.__doc__.startswith(f"{record.__name__}(")


def test_the_union_has_every_record_of_the_module() -> None:
    names = (*vars(trace).values(), *vars(exchanges).values())
    classes = {each for each in names if dataclasses.is_dataclass(each) and isinstance(each, type)}
    modules = (trace.__name__, exchanges.__name__)
    assert {each for each in classes if each.__module__ in modules} == set(RECORDS)


def test_an_agent_needs_no_sink() -> None:
    net = Net()
    agent = Agent(Role.CONTROLLING, UDP_ONLY, rng=Random(1), pacer=Pacer())
    agent.gather([InterfaceAddress("eth0", "192.0.2.1")], net.now)
    assert len(agent.commands()) == 1


def test_records_come_in_the_order_of_time() -> None:
    one, _ = busy_session()
    instants = [at for at, _ in one.trace]
    assert instants == sorted(instants)


@pytest.mark.parametrize("what", ["trace", "events", "commands", "statistics"])
def test_passwords_appear_nowhere(what: str) -> None:
    """CONVENTIONS 17: passwords never appear in traces, events or reprs."""
    for node in busy_session():
        passwords = {event.parameters.pwd for event in node.all_events(Restarted)}
        passwords |= {each.agent.local_parameters.pwd for each in node.net.nodes}
        text = {
            "trace": repr(node.trace),
            "events": repr(node.events),
            "commands": repr(node.commands),
            "statistics": repr([node.agent.pair_statistics(), node.agent.selected_path(), node.agent]),
        }[what]
        assert len(text) > 10
        assert not [password for password in passwords if password in text]


def tcp_session() -> Node:
    """A controlled node that is refused, accepts, is asked, asks for consent, loses its connection and dials again."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("so"), hosts=["192.0.2.1", "127.0.0.1"])
    node.gather()
    peer = Peer(node)
    remote = tcp_candidate(TcpType.SO)
    peer.introduce(remote, remote)
    net.run(0)
    for _ in range(UDP_ONLY.simultaneous_open.fresh_port_after):
        while not node.dialling:
            net.run(0.01)
        node.fails(next(iter(node.dialling)), Failure.REFUSED)
    listener = node.all_commands(Connect)[0].listener
    assert listener is not None
    stream = node.accept(listener, remote.address)
    assert stream is not None
    peer.answers_all()
    node.receive(TcpPath(stream), b"not a STUN message")
    peer.asks(TcpPath(stream), peer.request(role=Role.CONTROLLED))
    peer.asks(TcpPath(stream), use_candidate=True)
    net.run(6)
    peer.answers_all()
    node.fails(stream, Failure.RESET)
    return node


def served_session() -> Node:
    """A node that has a relay, and gets an answer that it asked nobody for."""
    world = World()
    world.server()
    node = world.client(served(turn()))
    node.gather()
    world.run(1)
    stray = stun.encode(stun.MessageClass.SUCCESS, stun.Method.ALLOCATE, bytes(12), [])
    node.leg_receives(next(iter(node.legs)), stray)
    return node


def predicting_session() -> Node:
    """A node behind a NAT that counts its ports."""
    world = World()
    world.server(hosts=[HOST, OTHER_HOST], alternate_port=OTHER_PORT)
    policy = served(STUN, transports=["tcp"], simultaneous_open={"predict_ports": 2})
    node = world.client(policy, nat=Nat(NatKind.PORT_DEPENDENT))
    node.gather()
    world.run(5)
    return node


def test_every_kind_of_record_is_written_when_its_thing_happens() -> None:
    nodes = (*busy_session(), tcp_session(), served_session(), predicting_session())
    written = {type(record) for node in nodes for _, record in node.trace}
    assert set(RECORDS) - written == set()
