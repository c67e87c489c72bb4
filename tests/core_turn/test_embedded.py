"""The client machines against the embedded server's core, both without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.turn import (
    Advice,
    Allocated,
    BindingJob,
    Credentials,
    DataConnection,
    Mapping,
    ServerFailure,
    ServerVerdict,
    State,
    TcpAllocation,
    UdpAllocation,
    Wishes,
    short_lived_credentials,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.server.core.trace import AllocationEnded
from ice_tcp.server.options import Limits, ServerOptions
from ice_tcp.stun import PasswordAlgorithm
from tests.core_turn.embedded import GREETING, HOST, HOST6, WALL, DatagramLeg, Net, StreamLeg
from tests.core_turn.script import ALICE, START, Recorder

PEER = TransportAddress("8.8.4.4", 7000)
PEER6 = TransportAddress("2a00::4", 7000)
LOCAL = TransportAddress("198.51.100.9", 40000)


def options(**changes: Any) -> ServerOptions:
    return ServerOptions(hosts=(HOST, HOST6), users={ALICE.username: ALICE.password}, **changes)


@dataclass
class Client:
    net: Net
    leg: DatagramLeg | StreamLeg
    listener: Recorder
    machine: UdpAllocation

    def told(self, name: str) -> list[tuple[object, ...]]:
        return [each for each in self.listener.told if each[0] == name]

    def allocated(self) -> Allocated:
        found = self.told("allocated")[0][1]
        assert isinstance(found, Allocated)
        return found

    def failure(self) -> ServerFailure:
        found = self.listener.told[-1][-1]
        assert isinstance(found, ServerFailure)
        return found

    def run(self, seconds: float = 1.0) -> None:
        self.net.clock.advance(seconds)


def client(
    net: Net,
    *,
    reliable: bool = False,
    credentials: Credentials = ALICE,
    wishes: Wishes | None = None,
    port: int = LOCAL.port,
) -> Client:
    """One that has asked for an allocation, and has its answer."""
    leg: DatagramLeg | StreamLeg
    leg = StreamLeg(net, (LOCAL.host, port)) if reliable else DatagramLeg(net, (LOCAL.host, port))
    listener = Recorder()
    machine = UdpAllocation(net.clock.context, leg, listener, credentials=credentials, wishes=wishes)
    leg.deliver = machine.received
    machine.start(net.clock.now)
    net.clock.advance(1)
    return Client(net, leg, listener, machine)


@pytest.mark.parametrize("reliable", [False, True])
@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    "algorithms",
    [(), (PasswordAlgorithm.MD5,), (PasswordAlgorithm.MD5, PasswordAlgorithm.SHA256)],
    ids=["unnamed", "MD5", "both"],
)
def test_an_hour_and_then_the_end(reliable: bool, anonymous: bool, algorithms: tuple[PasswordAlgorithm, ...]) -> None:
    net = Net(options(password_algorithms=algorithms, username_anonymity=anonymous, nonce_lifetime=500.0))
    here = client(net, reliable=reliable)
    assert here.allocated().mapped == LOCAL
    assert here.allocated().relayed[0].host == HOST
    here.machine.permit([PEER.host], net.clock.now)
    here.run()
    for count in range(360):
        assert here.machine.send_data(PEER, b"%d" % count, net.clock.now)
        here.run(10)
    assert here.told("data") == [("data", PEER, b"%d" % count) for count in range(360)]
    assert here.told("bound") == [("bound", PEER)]
    here.machine.close(net.clock.now)
    here.run()
    assert here.listener.told[-1] == ("closed",)
    assert [type(record) for record in net.records].count(AllocationEnded) == 1


def test_wrong_password() -> None:
    here = client(Net(options()), credentials=Credentials("alice", "wrong"))
    assert here.failure().cause is ServerVerdict.UNAUTHENTICATED


def test_short_lived_credentials() -> None:
    net = Net(ServerOptions(hosts=(HOST,), shared_secret="north"))
    good = short_lived_credentials("north", "bob", WALL + START, lifetime=60)
    assert client(net, credentials=good).allocated().relayed
    expired = short_lived_credentials("north", "bob", WALL + START - 120, lifetime=60)
    here = client(net, credentials=expired, port=40001)
    assert here.failure().cause is ServerVerdict.UNAUTHENTICATED


def test_both_families() -> None:
    net = Net(options())
    here = client(net, wishes=Wishes(families=(4, 6)))
    assert [address.host for address in here.allocated().relayed] == [HOST, HOST6]
    here.machine.permit([PEER.host, PEER6.host], net.clock.now)
    here.run()
    here.machine.send_data(PEER, b"four", net.clock.now)
    here.machine.send_data(PEER6, b"six", net.clock.now)
    here.run()
    assert sorted(here.told("data"), key=str) == [("data", PEER6, b"six"), ("data", PEER, b"four")]


@pytest.mark.parametrize(("host", "missing"), [(HOST, 6), (HOST6, 4)])
def test_one_family_of_two(host: str, missing: int) -> None:
    net = Net(ServerOptions(hosts=(HOST, HOST6), relay_hosts=(host,), users={ALICE.username: ALICE.password}))
    here = client(net, wishes=Wishes(families=(4, 6)))
    assert [address.host for address in here.allocated().relayed] == [host]
    assert [(family, failure.cause) for family, failure in here.allocated().refused] == [
        (missing, ServerVerdict.FAMILY_NOT_SUPPORTED)
    ]


def test_reserved_port_for_a_second_component() -> None:
    net = Net(options())
    first = client(net, wishes=Wishes(even_port=True, reserve_next=True)).allocated()
    assert first.reservation is not None and first.relayed[0].port % 2 == 0
    second = client(net, wishes=Wishes(reservation=first.reservation), port=40001).allocated()
    assert second.relayed[0].port == first.relayed[0].port + 1


def test_reservation_that_is_gone_costs_only_the_port() -> None:
    here = client(Net(options()), wishes=Wishes(reservation=b"unknown!"))
    assert here.allocated().relayed


def test_quota() -> None:
    net = Net(options(limits=Limits(allocations_per_user=1)))
    client(net)
    here = client(net, port=40001)
    assert (here.failure().cause, here.failure().retry_after) == (ServerVerdict.QUOTA_REACHED, 60.0)


def test_socket_that_has_an_allocation_already() -> None:
    net = Net(options())
    client(net)
    here = client(net)
    assert (here.failure().cause, here.failure().advice) == (ServerVerdict.ALLOCATION_MISMATCH, Advice.NEW_SOCKET)


def test_alternate_server() -> None:
    net = Net(options(alternate_servers=(("203.0.113.77", 3478),)))
    here = client(net)
    assert here.failure().advice is Advice.ALTERNATE
    assert here.failure().alternate == TransportAddress("203.0.113.77", 3478)


def test_one_forbidden_peer_among_others() -> None:
    net = Net(options())
    here = client(net)
    here.machine.permit([PEER.host, "127.0.0.1", "8.8.8.8"], net.clock.now)
    here.run()
    assert sorted(here.told("granted")) == [("granted", PEER.host), ("granted", "8.8.8.8")]
    assert here.told("refused") == [("refused", "127.0.0.1", ServerVerdict.FORBIDDEN)]


def test_server_restarts() -> None:
    net = Net(options())
    here = client(net)
    fresh = Net(options(), seed=4)
    net.core = fresh.core
    net.execute()
    here.machine.permit([PEER.host], net.clock.now)
    here.run()
    assert here.told("lost") or here.told("refused")
    here.run(700)
    assert here.machine.state is State.ENDED
    assert here.failure().advice is Advice.RECONNECT


@pytest.mark.parametrize("reliable", [False, True])
def test_binding(reliable: bool) -> None:
    net = Net(options())
    leg: DatagramLeg | StreamLeg
    leg = StreamLeg(net, (LOCAL.host, LOCAL.port)) if reliable else DatagramLeg(net, (LOCAL.host, LOCAL.port))
    listener = Recorder()
    job = BindingJob(net.clock.context, leg, listener)
    leg.deliver = job.received
    job.start(net.clock.now)
    net.clock.advance(1)
    mapping = listener.told[0][1]
    assert isinstance(mapping, Mapping)
    assert mapping.mapped == LOCAL
    assert mapping.response_origin == TransportAddress(HOST, 3478)


@dataclass
class TcpClient:
    """A TCP allocation, and the data connections that its owner opens for it."""

    net: Net
    leg: StreamLeg
    listener: Recorder
    machine: TcpAllocation

    def open(self, connection_id: int) -> Data:
        leg = StreamLeg(self.net, (LOCAL.host, 50_000 + len(self.net.stream_legs)))
        listener = Recorder()
        data = Data(leg, self.machine.data_connection(leg, connection_id, listener), listener)
        leg.deliver = data.received
        data.machine.start(self.net.clock.now)
        self.net.clock.advance(1)
        return data


@dataclass
class Data:
    leg: StreamLeg
    machine: DataConnection
    listener: Recorder
    bytes_received: bytes = b""

    def received(self, chunk: bytes, now: float) -> None:
        self.bytes_received += self.machine.received(chunk, now)


def tcp_client(net: Net) -> TcpClient:
    leg = StreamLeg(net, (LOCAL.host, LOCAL.port))
    listener = Recorder()
    machine = TcpAllocation(net.clock.context, leg, listener, credentials=ALICE)
    leg.deliver = machine.received
    machine.start(net.clock.now)
    net.clock.advance(1)
    return TcpClient(net, leg, listener, machine)


@pytest.mark.parametrize("nonce_lifetime", [3600.0, 0.5])
def test_connect_and_carry(nonce_lifetime: float) -> None:
    net = Net(options(nonce_lifetime=nonce_lifetime))
    net.accepting.add((PEER.host, PEER.port))
    here = tcp_client(net)
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(1)
    name, peer, connection_id = here.listener.told[-1]
    assert (name, peer) == ("connected", PEER)
    assert isinstance(connection_id, int)
    data = here.open(connection_id)
    assert data.listener.told == [("data connection bound",)]
    data.leg.send(b"hello")
    net.clock.advance(1)
    assert data.bytes_received == GREETING + b"hello"
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(1)
    failure = here.listener.told[-1][-1]
    assert isinstance(failure, ServerFailure) and failure.cause is ServerVerdict.CONNECTION_EXISTS
    data.leg.close()
    net.clock.advance(1)
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(1)
    assert here.listener.told[-1][0] == "connected"


def test_unreachable_peer_and_the_next_try() -> None:
    net = Net(options())
    here = tcp_client(net)
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(1)
    failure = here.listener.told[-1][-1]
    assert isinstance(failure, ServerFailure) and failure.cause is ServerVerdict.CONNECTION_FAILED
    net.accepting.add((PEER.host, PEER.port))
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(8)
    assert [each[0] for each in here.listener.told[1:]] == ["connect failed"]
    net.clock.advance(2)
    assert [each[0] for each in here.listener.told[1:]] == ["connect failed", "connected"]


def test_peer_connects() -> None:
    net = Net(options())
    here = tcp_client(net)
    allocated = here.listener.told[0][1]
    assert isinstance(allocated, Allocated)
    relay = (allocated.relayed[0].host, allocated.relayed[0].port)
    assert not net.peer_connects((PEER.host, PEER.port), relay)
    here.machine.permit([PEER.host], net.clock.now)
    net.clock.advance(1)
    assert net.peer_connects((PEER.host, PEER.port), relay)
    net.clock.advance(1)
    name, peer, connection_id = here.listener.told[-1]
    assert (name, peer) == ("attempt", PEER)
    assert isinstance(connection_id, int)
    assert here.open(connection_id).bytes_received == GREETING


def test_connection_id_that_is_too_old() -> None:
    net = Net(options())
    net.accepting.add((PEER.host, PEER.port))
    here = tcp_client(net)
    here.machine.connect(PEER, net.clock.now)
    net.clock.advance(40)
    connection_id = here.listener.told[-1][2]
    assert isinstance(connection_id, int)
    failure = here.open(connection_id).listener.told[0][1]
    assert isinstance(failure, ServerFailure) and failure.cause is ServerVerdict.BAD_REQUEST


def test_server_that_relays_no_tcp() -> None:
    net = Net(options(tcp_relay=False))
    here = tcp_client(net)
    failure = here.listener.told[-1][1]
    assert isinstance(failure, ServerFailure)
    assert (failure.cause, failure.advice) == (ServerVerdict.TRANSPORT_NOT_SUPPORTED, Advice.UDP_ALLOCATION)
    assert client(net, reliable=True, port=40001).allocated().relayed


def test_control_connection_breaks() -> None:
    net = Net(options())
    here = tcp_client(net)
    here.leg.close()
    here.machine.path_lost(Verdict.CLOSED, net.clock.now)
    assert here.listener.told[-1][0] == "lost"
