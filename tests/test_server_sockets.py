"""The embedded server on loopback, asked by plain sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from ice_tcp.net.sockets import NetworkError
from ice_tcp.server import Leg, Limits, PeerPolicy, Server, ServerOptions
from ice_tcp.server.core.trace import AllocationEnded, DropReason, MessageDropped, Record
from ice_tcp.stun import (
    MessageClass,
    Method,
    change_request,
    channel_number,
    connection_id,
    data,
    decode,
    dont_fragment,
    encode,
    even_port,
    lifetime,
)
from tests.server_clients import (
    PATIENCE,
    Client,
    SlowClient,
    StreamClient,
    UdpClient,
    make_certificate,
    peer,
    receive,
    udp_socket,
)

UDP, TCP = 17, 6
LEGS = [Leg.UDP, Leg.TCP, Leg.TLS]

Certificate: TypeAlias = tuple[Path, Path]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def server_tls(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def client_tls(certificate: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


class Place:
    """A running server and its clients."""

    def __init__(self, server: Server, certificate: Certificate, records: list[Record]) -> None:
        self.server = server
        self.records = records
        self._tls = client_tls(certificate)
        self._clients: list[Client] = []

    async def client(self, leg: Leg, like: Client | None = None) -> Client:
        """A client; with the challenge of another one, if it shall act for it."""
        address = self.server.address(leg)
        client: Client
        if leg is Leg.UDP:
            client = UdpClient(address)
        else:
            client = await StreamClient.connect(address, self._tls if leg is Leg.TLS else None)
        if like is not None:
            client.challenge = like.challenge
        self._clients.append(client)
        return client

    async def stream(self, leg: Leg = Leg.TCP, like: Client | None = None) -> StreamClient:
        client = await self.client(leg, like)
        assert isinstance(client, StreamClient)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


def run(
    certificate: Certificate, scenario: Callable[[Place], Coroutine[Any, Any, None]], **changes: object
) -> list[Record]:
    """Run a server and the scenario, and return what the server traced."""
    settings: dict[str, object] = {
        "port": 0,
        "tls_port": 0,
        "users": {"user": "pass"},
        "peers": PeerPolicy(loopback=True),
        **changes,
    }
    records: list[Record] = []

    async def main() -> None:
        options = ServerOptions(**settings)  # type: ignore[arg-type]
        trace = lambda _, record: records.append(record)  # noqa: E731
        async with Server(options, tls=server_tls(certificate), trace=trace) as server:
            place = Place(server, certificate, records)
            try:
                await scenario(place)
            finally:
                place.close()

    asyncio.run(main())
    return records


@pytest.mark.parametrize("leg", LEGS)
def test_binding_on_every_leg(certificate: Certificate, leg: Leg) -> None:
    async def scenario(place: Place) -> None:
        client = await place.client(leg)
        for _ in range(3):
            assert (await client.ask(Method.BINDING)).xor_mapped_address == client.address

    run(certificate, scenario)


@pytest.mark.parametrize("leg", LEGS)
def test_channels_carry_data_both_ways(certificate: Certificate, leg: Leg) -> None:
    async def scenario(place: Place) -> None:
        client, remote = await place.client(leg), udp_socket()
        relayed = await client.allocate(UDP)
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()))
        for payload in (b"", b"x", b"hello", bytes(1200), bytes(9000)):
            message = b"\x40\x00" + len(payload).to_bytes(2, "big") + payload
            await client.send(message)
            assert await receive(remote) == payload
            remote.sendto(payload, relayed)
            assert await client.receive() == message
        remote.close()

    run(certificate, scenario)


@pytest.mark.parametrize("leg", LEGS)
def test_bursts_arrive_whole_and_in_order(certificate: Certificate, leg: Leg) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate([1200] * 50 + [3, 1200, 700] * 5)]

    async def scenario(place: Place) -> None:
        client, remote = await place.client(leg), udp_socket()
        relayed = await client.allocate(UDP)
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()))
        for payload in payloads:
            await client.send(b"\x40\x00" + len(payload).to_bytes(2, "big") + payload)
        assert [await receive(remote) for _ in payloads] == payloads
        for payload in payloads:
            remote.sendto(payload, relayed)
        assert [(await client.receive())[4:] for _ in payloads] == payloads
        remote.close()

    run(certificate, scenario)


def test_segments_of_one_system_call_are_relayed_one_by_one(certificate: Certificate) -> None:
    payloads = [bytes([number]) * 1000 for number in range(20)] + [b"short"]

    async def scenario(place: Place) -> None:
        client, remote = await place.client(Leg.UDP), udp_socket()
        assert isinstance(client, UdpClient)
        relayed = await client.allocate(UDP)
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()))
        messages = [b"\x40\x00" + len(payload).to_bytes(2, "big") + payload for payload in payloads]
        client.sock.sendmsg(messages, [(socket.IPPROTO_UDP, 103, (1004).to_bytes(2, "little"))])  # UDP_SEGMENT
        assert [await receive(remote) for _ in payloads] == payloads
        segment = [(socket.IPPROTO_UDP, 103, (1000).to_bytes(2, "little"))]
        remote.sendmsg(payloads, segment, 0, relayed)
        assert [await client.receive() for _ in payloads] == messages
        remote.close()

    run(certificate, scenario)


@pytest.mark.parametrize("leg", LEGS)
def test_indications_carry_data_both_ways(certificate: Certificate, leg: Leg) -> None:
    async def scenario(place: Place) -> None:
        client, remote = await place.client(leg), udp_socket()
        await client.allocate(UDP)
        await client.succeed(Method.CREATE_PERMISSION, peer(remote.getsockname()))
        for extra in ([], [dont_fragment()]):
            attributes = [peer(remote.getsockname())(bytes(12)), data(b"hello"), *extra]
            await client.send(encode(MessageClass.INDICATION, Method.SEND, bytes(12), attributes))
            loop = asyncio.get_running_loop()
            received, source = await asyncio.wait_for(loop.sock_recvfrom(remote, 100), PATIENCE)
            assert received == b"hello"
            remote.sendto(b"world", source)
            indication = decode(await client.receive())
            assert indication.method == Method.DATA and indication.data == b"world"
            assert indication.xor_peer_address == remote.getsockname()
        remote.close()

    run(certificate, scenario)


def test_two_clients_reach_each_other_through_their_relays(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        ann, bob = await place.client(Leg.UDP), await place.client(Leg.TCP)
        addresses = [await ann.allocate(UDP), await bob.allocate(UDP)]
        await ann.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(addresses[1]))
        await bob.succeed(Method.CHANNEL_BIND, channel_number(0x4001), peer(addresses[0]))
        await ann.send(b"\x40\x00\x00\x04ping")
        assert await bob.receive() == b"\x40\x01\x00\x04ping"
        await bob.send(b"\x40\x01\x00\x04pong")
        assert await ann.receive() == b"\x40\x00\x00\x04pong"

    run(certificate, scenario)


def test_ipv6_and_a_dual_allocation(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        client = UdpClient(place.server.address(Leg.UDP, 6))
        remote = udp_socket("::1")
        relayed = await client.allocate(UDP, (0x8000, b"\2\0\0\0"))
        assert relayed[0] == "127.0.0.1"
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()[:2]))
        await client.send(b"\x40\x00\x00\x04ping")
        loop = asyncio.get_running_loop()
        received, source = await asyncio.wait_for(loop.sock_recvfrom(remote, 100), PATIENCE)
        assert received == b"ping"
        remote.sendto(b"pong", source)
        assert await client.receive() == b"\x40\x00\x00\x04pong"
        client.close()
        remote.close()

    run(certificate, scenario, hosts=("127.0.0.1", "::1"))


def test_relays_and_routes_are_closed_with_the_allocation(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        client, remote = await place.client(Leg.UDP), udp_socket()
        relayed = await client.allocate(UDP)
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()))
        await client.succeed(Method.REFRESH, lifetime(0))
        await client.send(b"\x40\x00\x00\x04late")
        await client.ask(Method.BINDING)
        free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        free.bind(relayed)  # nobody has it any more
        free.close()
        remote.close()

    records = run(certificate, scenario)
    assert [record.reason for record in records if isinstance(record, MessageDropped)] == [DropReason.NO_CHANNEL]


def test_an_allocation_of_a_second_expires(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        client = await place.client(Leg.UDP)
        await client.allocate(UDP)
        await asyncio.sleep(0.6)
        response = await client.ask(Method.REFRESH)
        assert response.error_code is not None and response.error_code.code == 437

    records = run(certificate, scenario, default_lifetime=0.5, max_lifetime=0.5)
    assert [record.why for record in records if isinstance(record, AllocationEnded)] == ["expired"]


def test_even_ports_are_bound_in_pairs(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        ends = [(await (await place.client(Leg.UDP)).allocate(UDP, even_port(True)))[1] for _ in range(3)]
        assert len(set(ends)) == 3 and not any(port % 2 for port in ends)

    run(certificate, scenario)


def test_behaviour_discovery_answers_from_where_it_is_asked_to(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        sock = udp_socket()
        loop = asyncio.get_running_loop()
        addresses = [listener.address for listener in place.server.listeners if listener.leg is Leg.UDP]
        assert len(addresses) == 4
        host, port = addresses[0]
        for change_ip in (False, True):
            for change_port in (False, True):
                attributes = [change_request(change_ip=change_ip, change_port=change_port)]
                sock.sendto(encode(MessageClass.REQUEST, Method.BINDING, bytes(12), attributes), addresses[0])
                message, source = await asyncio.wait_for(loop.sock_recvfrom(sock, 1000), PATIENCE)
                response = decode(message)
                assert (source[0] != host, source[1] != port) == (change_ip, change_port)
                assert response.response_origin == source
                assert response.other_address in addresses
        sock.close()

    run(certificate, scenario, hosts=("127.0.0.1", "127.0.0.2"), alternate_port=0)


# Connections


@pytest.mark.parametrize("leg", LEGS[1:])
@pytest.mark.parametrize(
    "garbage",
    [b"\xff\xff", b"\x80\0\0\0", b"\x00\x01\x00\x01\x21\x12\xa4\x42", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4"],
)
def test_a_connection_that_carries_something_else_is_closed(certificate: Certificate, leg: Leg, garbage: bytes) -> None:
    async def scenario(place: Place) -> None:
        client = await place.stream(leg)
        await client.ask(Method.BINDING)
        client.writer.write(garbage)
        with suppress(ConnectionResetError):
            assert await client.end() == b""

    run(certificate, scenario)


def test_half_open_connections_and_handshakes_are_closed(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        silent = await place.stream()
        reader, writer = await asyncio.open_connection(*place.server.address(Leg.TLS))
        writer.write(b"\x16\x03\x01")
        for end in (silent.reader, reader):
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(end.read(), PATIENCE) == b""
        writer.close()

    run(certificate, scenario, handshake_timeout=0.3)


def test_plain_on_the_tls_port_is_closed(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        client = await StreamClient.connect(place.server.address(Leg.TLS))
        with pytest.raises((EOFError, ConnectionResetError)):
            await client.ask(Method.BINDING)
        client.close()

    run(certificate, scenario)


def test_too_many_connections_are_closed(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        await (await place.client(Leg.TCP)).ask(Method.BINDING)
        surplus = await place.client(Leg.TCP)
        with pytest.raises((EOFError, ConnectionResetError)):
            await surplus.ask(Method.BINDING)

    run(certificate, scenario, limits=Limits(streams=1))


def test_relayed_datagrams_are_dropped_for_a_client_that_does_not_read(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        client, remote = await SlowClient.connect(place.server.address(Leg.TCP)), udp_socket()
        relayed = await client.allocate(UDP)
        await client.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(remote.getsockname()))
        sent = 0
        for _ in range(800):
            for _ in range(20):
                remote.sendto(bytes(1200), relayed)
                sent += 1
            await asyncio.sleep(0)
        await client.send(encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))
        received = 0
        while (message := await client.receive())[0] >= 0x40:
            received += 1
        assert decode(message).method == Method.BINDING
        assert 0 < received < sent
        client.close()
        remote.close()

    run(certificate, scenario, limits=Limits(send_bytes=64 * 1024))


# TCP relays


class TcpPeer:
    """A peer that listens, and hands out its connections."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __aenter__(self) -> TcpPeer:
        self._server = await asyncio.start_server(lambda *ends: self.connections.put_nowait(ends), "127.0.0.1", 0)
        self.address = self._server.sockets[0].getsockname()
        return self

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(self.connections.get(), PATIENCE)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


@pytest.mark.parametrize("leg", LEGS[1:])
def test_connect_to_a_peer(certificate: Certificate, leg: Leg) -> None:
    async def scenario(place: Place) -> None:
        async with TcpPeer() as listening:
            control = await place.stream(leg)
            relayed = await control.allocate(TCP)
            number = (await control.succeed(Method.CONNECT, peer(listening.address))).connection_id
            reader, writer = await listening.accept()
            assert writer.get_extra_info("peername") == relayed
            writer.write(b"early bytes of the peer")
            response = await control.ask(Method.CONNECT, peer(listening.address))
            assert response.error_code is not None and response.error_code.code == 446
            client = await place.stream(leg, control)
            await client.succeed(Method.CONNECTION_BIND, connection_id(number or 0))
            client.writer.write(b"hello")
            assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"hello"
            assert await client.raw(23) == b"early bytes of the peer"
            big = bytes(range(256)) * 40000  # more than all buffers hold
            writer.write(big)
            assert await client.raw(len(big)) == big
            client.writer.write(big)
            assert await asyncio.wait_for(reader.readexactly(len(big)), PATIENCE) == big
            writer.close()
            assert await client.end() == b""

    run(certificate, scenario)


def test_bytes_right_after_connection_bind_are_not_lost(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        async with TcpPeer() as listening:
            control = await place.stream()
            await control.allocate(TCP)
            number = (await control.succeed(Method.CONNECT, peer(listening.address))).connection_id
            client = await place.stream(Leg.TCP, control)
            put = client.send

            async def send_more(message: bytes) -> None:
                await put(message + b"\xff impatient")

            client.send = send_more  # type: ignore[method-assign]
            await client.succeed(Method.CONNECTION_BIND, connection_id(number or 0))
            reader, writer = await listening.accept()
            received = await asyncio.wait_for(reader.readexactly(11), PATIENCE)
            assert received == b"\xff impatient"
            writer.close()

    run(certificate, scenario)


def test_a_peer_connects(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        control = await place.stream()
        relayed = await control.allocate(TCP)
        reader, writer = await asyncio.open_connection(*relayed)
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""  # without permission
        writer.close()
        await control.succeed(Method.CREATE_PERMISSION, peer(("127.0.0.1", 0)))
        reader, writer = await asyncio.open_connection(*relayed)
        writer.write(b"before the bind")
        attempt = decode(await control.receive())
        assert attempt.method == Method.CONNECTION_ATTEMPT
        assert attempt.xor_peer_address == writer.get_extra_info("sockname")
        client = await place.stream(Leg.TCP, control)
        await client.succeed(Method.CONNECTION_BIND, connection_id(attempt.connection_id or 0))
        assert await client.raw(15) == b"before the bind"
        client.writer.write(b"half")
        client.writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"half"
        writer.write(b"the other half")
        writer.close()
        assert await client.end() == b"the other half"

    run(certificate, scenario)


def test_a_peer_that_refuses_is_447(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        control = await place.stream()
        await control.allocate(TCP)
        closed = socket.socket()
        closed.bind(("127.0.0.1", 0))
        response = await control.ask(Method.CONNECT, peer(closed.getsockname()))
        assert response.error_code is not None and response.error_code.code == 447
        closed.close()

    run(certificate, scenario)


def test_data_connections_end_with_their_allocation(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        async with TcpPeer() as listening:
            control = await place.stream()
            await control.allocate(TCP)
            number = (await control.succeed(Method.CONNECT, peer(listening.address))).connection_id
            client = await place.stream(Leg.TCP, control)
            await client.succeed(Method.CONNECTION_BIND, connection_id(number or 0))
            reader, writer = await listening.accept()
            control.close()
            assert await client.end() == b""
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()

    run(certificate, scenario)


def test_a_slow_reader_slows_the_writer_down(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        async with TcpPeer() as listening:
            control = await place.stream()
            await control.allocate(TCP)
            number = (await control.succeed(Method.CONNECT, peer(listening.address))).connection_id
            client = await SlowClient.connect(place.server.address(Leg.TCP))
            client.challenge = control.challenge
            await client.succeed(Method.CONNECTION_BIND, connection_id(number or 0))
            _, writer = await listening.accept()
            writer.write(bytes(64 << 20))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.5)
            left = 64 << 20
            loop = asyncio.get_running_loop()
            while left:
                left -= len(await asyncio.wait_for(loop.sock_recv(client.sock, 1 << 20), PATIENCE))
            client.close()
            writer.close()

    run(certificate, scenario)


# The server itself


def test_ports_that_are_taken_are_an_error(certificate: Certificate) -> None:
    sock = udp_socket()

    async def scenario(_: Place) -> None:
        raise AssertionError("it started")

    with pytest.raises(NetworkError):
        run(certificate, scenario, port=sock.getsockname()[1])
    sock.close()


def test_tls_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="certificate"):
        Server(ServerOptions(tls_port=0))


def test_a_server_tells_where_it_is(certificate: Certificate) -> None:
    async def scenario(place: Place) -> None:
        assert {listener.leg for listener in place.server.listeners} == set(LEGS)
        assert place.server.address(Leg.UDP)[1] == place.server.address(Leg.TCP)[1]
        with pytest.raises(LookupError):
            place.server.address(Leg.UDP, 6)

    run(certificate, scenario)
