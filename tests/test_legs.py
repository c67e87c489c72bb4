"""Legs to servers: real sockets, and a core that does what the test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import (
    Admit,
    BindChannel,
    Close,
    Command,
    Deliver,
    Failure,
    LegId,
    LegTransport,
    Listen,
    ListenerId,
    OpenLeg,
    RelayPath,
    SendLeg,
    SendStream,
    StreamId,
    TcpPath,
    TurnIntoStream,
    Use,
)
from ice_tcp.errors import NoPathError
from ice_tcp.framing import ServerStreamSplitter
from ice_tcp.net.sockets import bind_udp
from ice_tcp.stun import Method, decode
from tests.loops import Runner, on_loop, run
from tests.test_asyncio_net import HOST, accept, address_of, plain_listener, reset
from tests.test_datapath import stun
from tests.test_datapath_relay import CHANNEL, UNKNOWN_CHANNEL, channel_data
from tests.test_driver import Session, session, turns
from tests.test_framing import frame

__all__ = ["on_loop"]

LEG = LegId(11)
STREAM = StreamId(3)
LISTENER = ListenerId(2)
PEER = TransportAddress("192.0.2.7", 4000)
PATH = RelayPath(LEG, PEER)
UDP, TCP = LegTransport.UDP, LegTransport.TCP


def open_leg(sock: socket.socket, transport: LegTransport) -> OpenLeg:
    return OpenLeg(LEG, 1, HOST, address_of(sock), transport, 5.0)


@contextmanager
def udp_server() -> Iterator[socket.socket]:
    with bind_udp(HOST, None) as sock:
        sock.setblocking(True)
        sock.settimeout(5)
        yield sock


async def opened(s: Session, server: socket.socket) -> TransportAddress:
    """A leg over UDP; returns its own address."""
    s.do(open_leg(server, UDP))
    leg, address = await s.core.input("leg_opened")
    assert leg == LEG
    assert isinstance(address, TransportAddress)
    return address


async def connected(s: Session, listener: socket.socket) -> socket.socket:
    """A leg over TCP; returns the server's end."""
    s.do(open_leg(listener, TCP))
    server = await accept(listener)
    assert await s.core.input("leg_opened") == (LEG, address_of_peer(server))
    return server


def address_of_peer(sock: socket.socket) -> TransportAddress:
    return TransportAddress(*sock.getpeername()[:2])


def in_use(*, channel: int | None = CHANNEL) -> list[Command]:
    """The peer's channel is bound, its path in use."""
    return [BindChannel(LEG, PEER, channel), Admit(PATH), Use(1, PATH)]


async def messages(server: socket.socket, count: int) -> list[bytes]:
    """What the server reads of a client, padding apart."""
    splitter = ServerStreamSplitter()
    found: list[bytes] = []
    while len(found) < count:
        chunk = await asyncio.get_running_loop().sock_recv(server, 65536)
        assert chunk, f"closed after {len(found)} messages"
        found += splitter.feed(chunk)
    return found


@contextmanager
def leg_closed(s: Session) -> Iterator[None]:
    s.core.answers["close"] = lambda: [Close(LEG)]
    yield


# UDP


def test_a_leg_over_udp_carries_messages_of_the_server(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                here = await opened(s, server)
                s.do(SendLeg(LEG, stun(b"ask.")))
                message, source = server.recvfrom(100)
                assert (message, source) == (stun(b"ask."), (here.host, here.port))
                server.sendto(stun(b"answ"), source)
                assert await s.core.input("leg_received") == (LEG, stun(b"answ"))
                server.sendto(channel_data(b"what?", UNKNOWN_CHANNEL), source)
                assert await s.core.input("leg_received") == (LEG, channel_data(b"what?", UNKNOWN_CHANNEL))
                s.do(Close(LEG))

    on_loop(main())


def test_data_of_a_peer_comes_and_goes_by_its_channel(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                here = await opened(s, server)
                s.do(*in_use())
                server.sendto(channel_data(b"hello"), (here.host, here.port))
                assert await s.recv() == b"hello"
                await s.component.outlet.send(b"back")
                assert server.recv(100) == channel_data(b"back")
                server.sendto(channel_data(stun()), (here.host, here.port))
                assert await s.core.input("relayed") == (LEG, PEER, stun())
                traffic = s.driver.traffic(PATH)
                assert traffic is not None
                assert (traffic.packets_sent, traffic.bytes_sent) == (1, 4)
                assert (traffic.packets_received, traffic.bytes_received) == (1, 5)
                s.do(Close(LEG))
                assert s.driver.traffic(PATH) is None

    on_loop(main())


def test_without_a_channel_data_comes_and_goes_through_the_servers_messages() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                await opened(s, server)
                s.do(Deliver(PATH, b"early"))
                assert not s.component.inbox.messages
                s.do(*in_use(channel=None))
                assert await s.recv() == b"early"
                s.do(Deliver(PATH, b"later"))
                assert await s.recv() == b"later"
                ids = set()
                for _ in range(2):
                    await s.component.outlet.send(b"hello")
                    message = decode(server.recv(100))
                    assert (message.method, message.data) == (Method.SEND, b"hello")
                    assert message.xor_peer_address == (PEER.host, PEER.port)
                    ids.add(message.transaction_id)
                assert len(ids) == 2
                s.do(Close(LEG))

    run(main())


def test_bursts_both_ways_arrive_in_order(on_loop: Runner) -> None:
    sent = [b"%04d" % number * 300 for number in range(200)]

    async def main() -> None:
        async with session(receive_bytes=2**20) as s, session() as server_side:
            with udp_server() as server:
                here = await opened(s, server)
                s.do(*in_use())
                for message in sent:
                    await s.component.outlet.send(message)
                await turns(2)
                assert [server.recv(2000) for _ in sent] == [channel_data(message) for message in sent]
                # And from a server that joins its datagrams, as ours does, so that they come joined.
                relay = server_side.driver.components[1]
                await opened_towards(server_side, here, server)
                for message in sent:
                    await relay.outlet.send(message)
                await turns(2)
                assert [await s.recv() for _ in sent] == sent
                s.do(Close(LEG))
                server_side.do(Close(LEG))

    async def opened_towards(other: Session, remote: TransportAddress, server: socket.socket) -> None:
        """A leg that sends from the server's port."""
        port = server.getsockname()[1]
        server.close()
        other.do(OpenLeg(LEG, 1, HOST, remote, UDP, 5.0, ports=(port, port)))
        assert await other.core.input("leg_opened") == (LEG, TransportAddress(HOST, port))
        other.do(*in_use())

    on_loop(main())


def test_a_leg_hears_its_server_only() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server, udp_server() as stranger:
                here = (await opened(s, server)).port
                stranger.sendto(stun(b"fake"), (HOST, here))
                server.sendto(stun(b"true"), (HOST, here))
                assert await s.core.input("leg_received") == (LEG, stun(b"true"))
                s.do(Close(LEG))

    run(main())


def test_what_is_cut_short_or_no_message_is_dropped() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                here = (await opened(s, server)).port
                s.do(*in_use())
                for packet in (
                    b"HTTP/1.1",
                    b"",
                    channel_data(b"hello")[:-1],
                    channel_data(b""),
                    b"@",
                    stun(b"1234")[:-1],
                ):
                    server.sendto(packet, (HOST, here))
                server.sendto(channel_data(b"last"), (HOST, here))
                assert await s.recv() == b"last"
                assert s.core.inputs.empty()
                s.do(Close(LEG))

    run(main())


def test_datagrams_for_an_application_that_does_not_read_are_dropped_and_counted() -> None:
    async def main() -> None:
        async with session(receive_bytes=65536, early_bytes=1300) as s:
            with udp_server() as server:
                here = (await opened(s, server)).port
                s.do(BindChannel(LEG, PEER, CHANNEL))
                for _ in range(3):
                    server.sendto(channel_data(bytes(1200)), (HOST, here))
                server.sendto(stun(), (HOST, here))
                await s.core.input("leg_received")
                assert s.driver.discarded(1) == 2
                s.do(Admit(PATH))
                for _ in range(100):
                    server.sendto(channel_data(bytes(1200)), (HOST, here))
                server.sendto(stun(), (HOST, here))
                await s.core.input("leg_received")
                kept = len(s.component.inbox.take_all())
                assert 65536 <= kept * (1200 + 64) < 65536 + 2 * 1300
                assert s.driver.discarded(1) == 2 + 101 - kept
                s.do(Close(LEG))

    run(main())


def test_a_port_where_nobody_listens_is_found_out_over_udp_too(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                await opened(s, server)
                s.do(*in_use())
            s.do(SendLeg(LEG, stun()))
            assert await s.core.input("leg_lost") == (LEG, Failure.REFUSED, "nobody listens on that port")
            with pytest.raises(NoPathError):
                s.component.outlet.transmit(b"x")
            s.do(SendLeg(LEG, stun()), Close(LEG))
            assert s.core.inputs.empty()

    on_loop(main())


def test_the_last_message_leaves_before_a_leg_is_closed() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                await opened(s, server)
                s.do(*in_use())
                for _ in range(3):
                    await s.component.outlet.send(b"data")
                s.do(SendLeg(LEG, stun(b"bye.")), Close(LEG))
                assert stun(b"bye.") in [server.recv(100) for _ in range(4)]
                with pytest.raises(NoPathError):
                    s.component.outlet.transmit(b"x")

    run(main())


@pytest.mark.parametrize("transport", LegTransport)
def test_a_leg_from_an_address_that_is_gone(transport: LegTransport) -> None:
    async def main() -> None:
        async with session() as s:
            s.do(OpenLeg(LEG, 1, "192.0.2.77", TransportAddress(HOST, 9), transport, 5.0))
            assert await s.core.input("leg_lost") == (LEG, Failure.ADDRESS_UNAVAILABLE, "address unavailable")

    run(main())


def test_a_leg_to_another_family_fails_at_once() -> None:
    async def main() -> None:
        for transport in (UDP, TCP):
            async with session() as s:
                s.do(OpenLeg(LEG, 1, HOST, TransportAddress("::1", 9), transport, 5.0))
                lost = (LEG, Failure.UNREACHABLE, "::1 cannot be reached from 127.0.0.1")
                assert await s.core.input("leg_lost") == lost

    run(main())


def test_ports_of_a_range() -> None:
    async def main() -> None:
        with udp_server() as taken, plain_listener() as listener:
            port = taken.getsockname()[1]
            async with session() as s:
                s.do(OpenLeg(LEG, 1, HOST, PEER, UDP, 5.0, ports=(port, port)))
                assert await s.core.input("leg_lost") == (LEG, Failure.PORTS_TAKEN, "ports taken")
                s.do(OpenLeg(LEG, 1, HOST, address_of(listener), TCP, 5.0, ports=(port, port)))
                assert await s.core.input("leg_opened") == (LEG, TransportAddress(HOST, port))
                s.do(Close(LEG))

    run(main())


# TCP


def test_a_leg_over_tcp_carries_messages_however_they_are_cut(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server, leg_closed(s):
                s.do(SendLeg(LEG, stun(b"ask.")))
                assert await messages(server, 1) == [stun(b"ask.")]
                for byte in stun(b"1234") + stun() + channel_data(b"what?", UNKNOWN_CHANNEL, padded=True):
                    server.send(bytes([byte]))
                    await turns(1)
                assert await s.core.input("leg_received") == (LEG, stun(b"1234"))
                assert await s.core.input("leg_received") == (LEG, stun())
                assert await s.core.input("leg_received") == (LEG, channel_data(b"what?", UNKNOWN_CHANNEL))

    on_loop(main())


def test_data_over_tcp_is_padded_and_unwrapped(on_loop: Runner) -> None:
    sent = [bytes([number]) * (number % 7 + 1) for number in range(100)]

    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server, leg_closed(s):
                s.do(*in_use())
                server.send(stun())
                await s.core.input("leg_received")
                for message in sent:
                    server.send(channel_data(message, padded=True))
                    await s.component.outlet.send(message)
                assert [await s.recv() for _ in sent] == sent
                assert await messages(server, len(sent)) == [channel_data(message) for message in sent]
                server.send(channel_data(b"x", padded=True) + channel_data(stun()) + channel_data(b"y", padded=True))
                assert [await s.recv() for _ in range(2)] == [b"x", b"y"]
                assert await s.core.input("relayed") == (LEG, PEER, stun())
                traffic = s.driver.traffic(PATH)
                assert traffic is not None
                assert (traffic.packets_sent, traffic.packets_received) == (100, 102)
                assert (traffic.bytes_sent, traffic.bytes_received) == (395, 397)

    on_loop(main())


def test_a_leg_from_the_listeners_own_port(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            s.do(Listen(LISTENER, 1, HOST))
            _, here = await s.core.input("socket_opened")
            with plain_listener() as listener, leg_closed(s):
                s.do(OpenLeg(LEG, 1, HOST, address_of(listener), TCP, 5.0, listener=LISTENER))
                with closing(await accept(listener)) as server:
                    assert await s.core.input("leg_opened") == (LEG, here)
                    assert address_of_peer(server) == here
                    s.do(Close(LISTENER))

    on_loop(main())


def test_a_leg_from_a_listener_that_is_gone_fails() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(OpenLeg(LEG, 1, HOST, TransportAddress(HOST, 9), TCP, 5.0, listener=LISTENER))
            assert await s.core.input("leg_lost") == (LEG, Failure.ADDRESS_UNAVAILABLE, "address unavailable")

    run(main())


def test_a_leg_that_is_refused(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                remote = address_of(listener)
            s.do(OpenLeg(LEG, 1, HOST, remote, TCP, 5.0))
            assert await s.core.input("leg_lost") == (LEG, Failure.REFUSED, "refused")

    on_loop(main())


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46"])
def test_a_server_that_does_not_speak_stun(greeting: bytes) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                server.send(greeting)
                leg, failure, text = await s.core.input("leg_lost")
                assert (leg, failure) == (LEG, Failure.NOT_STUN)
                assert ("TLS" in text) == (greeting[0] == 0x15)
                assert server.recv(100) == b""

    run(main())


def test_messages_and_data_before_nonsense_are_not_lost() -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                s.do(*in_use())
                server.send(stun() + channel_data(b"data") + stun(b"1234") + b"\xffnonsense")
                assert await s.core.input("leg_received") == (LEG, stun())
                assert await s.core.input("leg_received") == (LEG, stun(b"1234"))
                assert (await s.core.input("leg_lost"))[1] is Failure.NOT_STUN
                assert await s.recv() == b"data"

    run(main())


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_a_server_that_closes_in_the_middle_of_a_message(end: str) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                server = await connected(s, listener)
                s.do(*in_use())
                server.send(stun() + stun(b"1234")[:-1])
                assert await s.core.input("leg_received") == (LEG, stun())
                if end == "fin":
                    server.close()
                    assert await s.core.input("leg_lost") == (LEG, Failure.CLOSED, "the server closed the connection")
                else:
                    reset(server)
                    assert await s.core.input("leg_lost") == (LEG, Failure.RESET, "reset")
                with pytest.raises(NoPathError):
                    s.component.outlet.transmit(b"x")
                s.do(SendLeg(LEG, stun()), Close(LEG))
                assert s.core.inputs.empty()

    run(main())


def test_the_last_message_is_written_before_a_leg_over_tcp_is_closed(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                s.do(SendLeg(LEG, stun(b"bye.")), Close(LEG))
                assert await messages(server, 1) == [stun(b"bye.")]
                assert await asyncio.get_running_loop().sock_recv(server, 100) == b""

    on_loop(main())


def test_a_leg_that_is_closed_while_it_connects_leaves_nothing() -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                s.do(open_leg(listener, TCP), SendLeg(LEG, stun()), Close(LEG))
                await turns(5)
                assert s.core.inputs.empty()

    run(main())


def test_what_follows_a_message_after_which_the_core_closes_the_leg_is_not_heard() -> None:
    async def main() -> None:
        async with session() as s:
            s.core.answers["leg_received"] = lambda *_: [Close(LEG)]
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                server.send(stun() + stun(b"more"))
                assert await s.core.input("leg_received") == (LEG, stun())
                await turns(5)
                assert s.core.inputs.empty()

    run(main())


def test_the_sender_waits_for_a_slow_server_and_messages_to_it_overtake(on_loop: Runner) -> None:
    async def main() -> None:
        async with session(send_bytes=2**20) as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server, leg_closed(s):
                s.do(*in_use())

                async def send() -> None:
                    for _ in range(3000):
                        await s.component.outlet.send(bytes(10_000))

                task = asyncio.create_task(send())
                await turns(200)
                assert not task.done()
                s.do(SendLeg(LEG, stun()))
                got = await messages(server, 3001)
                assert len(got) == 3001
                assert got.index(stun()) < 2900, "it did not wait behind all data"
                await task

    on_loop(main())


def test_a_waiting_sender_learns_that_the_leg_is_lost() -> None:
    async def main() -> None:
        async with session(send_bytes=65536) as s:
            with plain_listener() as listener:
                server = await connected(s, listener)
                s.do(*in_use())

                async def send() -> None:
                    while True:
                        await s.component.outlet.send(bytes(10_000))

                task = asyncio.create_task(send())
                await turns(100)
                reset(server)
                with pytest.raises(NoPathError):
                    await task

    run(main())


# From a leg to a connection with a peer (RFC 6062)


@pytest.mark.parametrize("size", [*range(1, 60), 1000])
def test_what_follows_connection_bind_is_the_peers_however_it_is_cut(size: int) -> None:
    stream = stun(b"ok. ") + frame(stun(b"chck")) + frame(b"early") + frame(b"data")

    async def main() -> None:
        async with session() as s:
            s.core.answers["leg_received"] = lambda *_: [TurnIntoStream(LEG, STREAM), SendStream(STREAM, stun(b"mine"))]
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                for start in range(0, len(stream), size):
                    server.send(stream[start : start + size])
                    await turns(1)
                assert await s.core.input("leg_received") == (LEG, stun(b"ok. "))
                assert await s.core.input("stream_received") == (STREAM, stun(b"chck"))
                assert server.recv(1000) == frame(stun(b"mine"))
                s.do(Admit(TcpPath(STREAM)), Use(1, TcpPath(STREAM)))
                assert await s.recv() == b"early"
                assert await s.recv() == b"data"
                await s.component.outlet.send(b"back")
                assert server.recv(1000) == frame(b"back")
                port, connection = s.driver.tcp_path(1)
                assert port.id == STREAM
                assert connection.remote == address_of(listener)
                s.do(SendLeg(LEG, stun()), Close(LEG))
                server.close()
                assert await s.core.input("stream_closed") == (STREAM,)

    run(main())


def test_a_peer_that_does_not_speak_ice_is_found_out_behind_connection_bind() -> None:
    async def main() -> None:
        async with session() as s:
            s.core.answers["leg_received"] = lambda *_: [TurnIntoStream(LEG, STREAM)]
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                server.send(stun() + b"SSH-2.0-OpenSSH\r\n")
                assert await s.core.input("leg_received") == (LEG, stun())
                assert await s.core.input("stream_failed") == (STREAM, Failure.NOT_STUN)

    run(main())


def test_what_waited_for_the_server_is_written_before_what_is_for_the_peer() -> None:
    async def main() -> None:
        async with session(send_bytes=2**22) as s:
            with plain_listener() as listener, closing(await connected(s, listener)) as server:
                s.do(*in_use())
                sent = 0
                while not s.driver._legs[LEG]._path.pending > 2**20:  # type: ignore[attr-defined]  # noqa: SLF001
                    s.component.outlet.transmit(bytes(10_000))
                    sent += 1
                    await turns(1)
                s.do(Use(1, None), TurnIntoStream(LEG, STREAM), SendStream(STREAM, stun(b"mine")))
                received = b""
                while not received.endswith(frame(stun(b"mine"))):
                    received += await asyncio.get_running_loop().sock_recv(server, 65536)
                assert len(received) == sent * 10_004 + len(frame(stun(b"mine")))
                s.do(Close(STREAM))

    run(main())


def test_a_leg_over_udp_does_not_turn_into_a_stream() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server:
                await opened(s, server)
                s.do(TurnIntoStream(LEG, STREAM), SendLeg(LEG, stun()), Close(LEG))
                assert server.recv(100) == stun()

    run(main())


# Nothing is left


def test_commands_for_legs_that_are_gone_do_nothing() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(
                SendLeg(LEG, stun()),
                *in_use(),
                Deliver(PATH, b"x"),
                TurnIntoStream(LEG, STREAM),
                SendStream(STREAM, stun()),
                Close(LEG),
            )
            assert s.core.inputs.empty()
            assert not s.component.inbox.messages
            with pytest.raises(NoPathError):
                s.component.outlet.transmit(b"x")
            assert s.driver.traffic(PATH) is None

    run(main())


def test_another_route_of_a_component_survives_the_end_of_a_leg() -> None:
    async def main() -> None:
        async with session() as s:
            with udp_server() as server, udp_server() as other:
                await opened(s, server)
                s.do(*in_use())
                second = LegId(12)
                s.do(OpenLeg(second, 1, HOST, address_of(other), UDP, 5.0))
                await s.core.input("leg_opened")
                s.do(BindChannel(second, PEER, CHANNEL), Use(1, RelayPath(second, PEER)), Close(LEG))
                await s.component.outlet.send(b"data")
                assert other.recv(100) == channel_data(b"data")
                s.do(Close(second))

    run(main())
