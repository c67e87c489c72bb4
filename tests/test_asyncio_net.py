from __future__ import annotations

import asyncio
import errno
import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure
from ice_tcp.datapath import Received, StreamPath, Traffic
from ice_tcp.framing import FrameSplitter
from ice_tcp.net.asyncio_net import Network
from ice_tcp.net.datagrams import MAX_DATAGRAM_BYTES, ConnectedSocket, DatagramSocket
from ice_tcp.net.listeners import Listener
from ice_tcp.net.sockets import LEASES, NetworkError, SocketAddress, bind_connector, bind_udp, transport_address
from ice_tcp.net.streams import Connection, PeerConnection
from ice_tcp.stun import is_stun
from tests.loops import Runner, on_loop, run
from tests.test_datapath import stun
from tests.test_framing import frame

__all__ = ["on_loop"]

HOST = "127.0.0.1"
ONE_TURN = 0
TRAFFIC = Traffic()


class Datagrams:
    """A `DatagramHandler` that keeps what comes."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.sources: set[SocketAddress] = set()
        self.turns: list[tuple[list[bytes], bool]] = []
        self.room = asyncio.Event()

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:
        self.sources.add(source)
        self.turns.append((datagrams, at_once))
        for data in datagrams:
            self.received.put_nowait(data)

    def writable(self) -> None:
        self.room.set()


class Streams:
    """A `StreamHandler` and `ListenerHandler` that keeps what comes, in order."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.events: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.accepted_connections: list[PeerConnection] = []

    async def event(self, name: str) -> object:
        """The value of the next event of this name; an end in its stead is a failure."""
        while True:
            kind, value = await self.events.get()
            if kind == name:
                return value
            assert kind in ("writable", "data", "stun", "accepted"), f"{kind} instead of {name}"

    async def data(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            value = await self.event("data")
            assert isinstance(value, bytes)
            received += value
        return received

    def accepted(self, listener: Listener, sock: socket.socket, remote: TransportAddress) -> None:
        connection = self.network.accept(sock, remote, HOST, admitted_path(), self)
        self.accepted_connections.append(connection)
        self.events.put_nowait(("accepted", connection))

    def stream_connected(self, connection: PeerConnection) -> None:
        self.events.put_nowait(("connected", connection))

    def stream_received(self, connection: PeerConnection, received: Received) -> None:
        for message in received.stun:
            self.events.put_nowait(("stun", message))
        for message in received.data:
            self.events.put_nowait(("data", message))

    def stream_closed(self, connection: PeerConnection) -> None:
        self.events.put_nowait(("closed", connection))

    def stream_failed(self, connection: PeerConnection, failure: Failure) -> None:
        self.events.put_nowait(("failed", failure))

    def stream_writable(self, connection: PeerConnection) -> None:
        self.events.put_nowait(("writable", connection))

    def stream_gone(self, connection: PeerConnection) -> None:
        self.events.put_nowait(("gone", connection))


def network() -> Network:
    return Network(asyncio.get_running_loop(), random.Random(1), 2**20)


def admitted_path(send_limit: int = 2**20) -> StreamPath:
    """The path of a connection on which an authenticated message came."""
    path = StreamPath(early_limit=1000, send_limit=send_limit)
    path.receive(frame(stun()))
    path.admit()
    return path


def address_of(sock: socket.socket) -> TransportAddress:
    return transport_address(sock.getsockname())


@contextmanager
def plain_listener() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen()
        sock.setblocking(False)
        yield sock


async def accept(listener: socket.socket) -> socket.socket:
    return (await asyncio.get_running_loop().sock_accept(listener))[0]


async def dialled(
    listener: socket.socket, path: StreamPath | None = None
) -> tuple[PeerConnection, Streams, socket.socket]:
    """A connection of ours to a plain listener, with its handler and the other end."""
    handler = Streams(network())
    connection = handler.network.connect(HOST, address_of(listener), 5.0, path or admitted_path(), handler)
    peer = await accept(listener)
    await handler.event("connected")
    return connection, handler, peer


# UDP


class TestDatagrams:
    def test_all_sizes_arrive_in_order(self, on_loop: Runner) -> None:
        sizes = [*range(1, 300, 7), 1200, 1200, 1200, 700, 1200, 9000, *[1200] * 100, 1, 1, MAX_DATAGRAM_BYTES, 65000]
        rng = random.Random(5)
        messages = [rng.randbytes(size) for size in sizes]

        async def main() -> None:
            here, there = Datagrams(), Datagrams()
            sender, receiver = (network().open_udp(HOST, None, handler) for handler in (here, there))
            with closing(sender), closing(receiver):
                for count, message in enumerate(messages):
                    assert sender.send_data((HOST, receiver.address.port), TRAFFIC, message)
                    if count % 50 == 49:
                        await asyncio.sleep(ONE_TURN)
                assert [await there.received.get() for _ in messages] == messages
                assert there.sources == {(HOST, sender.address.port)}

        on_loop(main())

    def test_ipv6(self) -> None:
        async def main() -> None:
            here, there = Datagrams(), Datagrams()
            with (
                closing(network().open_udp("::1", None, here)) as a,
                closing(network().open_udp("::1", None, there)) as b,
            ):
                a.send(b"hello", a.socket_address(b.address))
                assert await there.received.get() == b"hello"
                (source,) = there.sources
                assert transport_address(source) == a.address

        run(main())

    def test_a_single_message_leaves_at_once_and_later_ones_in_the_same_turn(self) -> None:
        async def main() -> None:
            with bind_udp(HOST, None) as peer, closing(network().open_udp(HOST, None, Datagrams())) as sock:
                for turn in range(3):
                    sock.send_data(peer.getsockname(), TRAFFIC, b"first")
                    assert peer.recv(100) == b"first"
                    for _ in range(5):
                        sock.send_data(peer.getsockname(), TRAFFIC, b"later")
                    await asyncio.sleep(ONE_TURN)
                    assert [peer.recv(100) for _ in range(5)] == [b"later"] * 5, f"turn {turn}"

        run(main())

    def test_a_lone_message_after_a_lone_message_leaves_at_once(self) -> None:
        async def main() -> None:
            with bind_udp(HOST, None) as peer, closing(network().open_udp(HOST, None, Datagrams())) as sock:
                for number in range(5):
                    sock.send_data(peer.getsockname(), TRAFFIC, b"%d" % number)
                    assert peer.recv(100) == b"%d" % number
                    await asyncio.sleep(ONE_TURN)

        run(main())

    def test_only_lone_messages_run_the_application_at_once(self) -> None:
        async def main() -> None:
            handler, at_once = Datagrams(), asyncio.Queue[bytes]()

            def deliver(data: bytes, source: SocketAddress) -> bool:
                at_once.put_nowait(data)
                return True

            with bind_udp(HOST, None) as peer, closing(network().open_udp(HOST, None, handler)) as sock:
                sock.deliver_one = deliver
                peer.connect((HOST, sock.address.port))
                peer.send(b"nobody knows yet that it is alone")
                await handler.received.get()
                peer.send(b"alone again")
                assert await at_once.get() == b"alone again"
                for _ in range(2):  # the first is followed by too many to be alone, the others are
                    for _ in range(4):
                        sock.send_data(peer.getsockname(), TRAFFIC, b"burst")
                    await asyncio.sleep(ONE_TURN)
                peer.send(b"an answer to a burst")
                assert await handler.received.get() == b"an answer to a burst"
                assert at_once.empty()

        run(main())

    def test_the_datagrams_of_one_turn_come_by_source_in_their_order(self) -> None:
        async def main() -> None:
            handler = Datagrams()
            with (
                bind_udp(HOST, None) as one,
                bind_udp(HOST, None) as other,
                closing(network().open_udp(HOST, None, handler)) as sock,
            ):
                for peer, data in ((one, b"1"), (one, b"2"), (other, b"3"), (one, b"4"), (other, b"5"), (other, b"6")):
                    peer.sendto(data, (HOST, sock.address.port))
                while await handler.received.get() != b"6":
                    pass
                assert [datagrams for datagrams, _ in handler.turns] == [[b"1", b"2"], [b"3"], [b"4"], [b"5", b"6"]]
                assert [at_once for _, at_once in handler.turns] == [False, False, False, True], "there is more to come"

        run(main())

    def test_what_came_before_a_refusal_is_delivered(self) -> None:
        class Refused(socket.socket):
            told = False

            def recvmsg(self, *sizes: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, SocketAddress]:
                if not Refused.told:
                    Refused.told = True
                    return b"before", [], 0, (HOST, 9)
                raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens")

        class Closing(Datagrams):
            socket: ConnectedSocket

            def datagram_refused(self) -> None:
                self.socket.close()
                self.room.set()

        async def main() -> None:
            handler = Closing()
            with bind_udp(HOST, None) as peer:
                plain = bind_udp(HOST, None)
                wrapped = Refused(fileno=plain.detach())
                loop = asyncio.get_running_loop()
                handler.socket = ConnectedSocket(loop, wrapped, HOST, peer.getsockname(), 2**20, handler)
                peer.sendto(b"something to read", (HOST, handler.socket.address.port))
                await handler.room.wait()
                assert handler.received.get_nowait() == b"before"

        run(main())

    def test_a_socket_closed_by_whom_it_delivers_to(self) -> None:
        async def main() -> None:
            handler, closed = Datagrams(), asyncio.Event()
            with bind_udp(HOST, None) as peer:
                sock = network().open_udp(HOST, None, handler)

                def deliver(data: bytes, source: SocketAddress) -> bool:
                    sock.close()
                    closed.set()
                    return True

                sock.deliver_one = deliver
                peer.connect((HOST, sock.address.port))
                peer.send(b"first")
                await handler.received.get()
                peer.send(b"last")
                await closed.wait()
                await asyncio.sleep(ONE_TURN)
                assert not sock.is_open
                assert handler.received.empty(), "it was delivered, and nothing reads a closed socket"

        run(main())

    def test_empty_datagrams_do_not_vanish_in_a_batch(self) -> None:
        async def main() -> None:
            messages = [b"a", b"b", b"", b"c", b"", b"", b"d"]
            with bind_udp(HOST, None) as peer, closing(network().open_udp(HOST, None, Datagrams())) as sock:
                for message in messages:
                    sock.send_data(peer.getsockname(), TRAFFIC, message)
                await asyncio.sleep(ONE_TURN)
                assert [peer.recv(100) for _ in messages] == messages

        run(main())

    def test_batches_go_to_their_own_remote(self) -> None:
        async def main() -> None:
            with bind_udp(HOST, None) as one, bind_udp(HOST, None) as two:
                with closing(network().open_udp(HOST, None, Datagrams())) as sock:
                    for number in range(10):
                        sock.send_data((one, two)[number % 2].getsockname(), TRAFFIC, b"%d" % number)
                    await asyncio.sleep(ONE_TURN)
                assert [one.recv(9) for _ in range(5)] == [b"0", b"2", b"4", b"6", b"8"]
                assert [two.recv(9) for _ in range(5)] == [b"1", b"3", b"5", b"7", b"9"]

        run(main())

    @pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.ENOPROTOOPT])
    def test_without_segmentation_datagrams_go_singly(self, code: int) -> None:
        class Unsegmented(socket.socket):
            attempts = 0

            def sendmsg(self, *args: object) -> int:
                Unsegmented.attempts += 1
                raise OSError(code, "no segmentation")

        async def main() -> None:
            with bind_udp(HOST, None) as peer, closing(wrapped(Unsegmented, Datagrams())) as sock:
                for _ in range(3):
                    for _ in range(20):
                        sock.send_data(peer.getsockname(), TRAFFIC, b"x" * 50)
                    await asyncio.sleep(ONE_TURN)
                assert [peer.recv(100) for _ in range(60)] == [b"x" * 50] * 60
                assert Unsegmented.attempts == 1, "the next ones know"

        run(main())

    @pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM])
    def test_icmp_errors_do_not_end_a_socket(self, code: int) -> None:
        class Disturbed(socket.socket):
            errors = 2

            def sendto(self, *args: object) -> int:
                self._fail()
                return super().sendto(*args)  # type: ignore[call-overload, no-any-return]

            def recvmsg(self, *args: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, SocketAddress]:
                self._fail()
                return super().recvmsg(*args)

            def _fail(self) -> None:
                if Disturbed.errors:
                    Disturbed.errors -= 1
                    raise OSError(code, "told by ICMP")

        async def main() -> None:
            handler = Datagrams()
            with bind_udp(HOST, None) as peer, closing(wrapped(Disturbed, handler)) as sock:
                assert sock.send_data(peer.getsockname(), TRAFFIC, b"lost")
                peer.sendto(b"to you", (HOST, sock.address.port))
                assert await handler.received.get() == b"to you"
                sock.send_data(peer.getsockname(), TRAFFIC, b"kept")
                assert peer.recv(100) == b"kept"

        run(main())

    def test_a_full_kernel_is_waited_for_and_the_wait_is_bounded(self) -> None:
        class Full(socket.socket):
            full = True

            def sendto(self, *args: object) -> int:
                if Full.full:
                    raise BlockingIOError
                return super().sendto(*args)  # type: ignore[call-overload, no-any-return]

        async def main() -> None:
            handler = Datagrams()
            with bind_udp(HOST, None) as peer, closing(wrapped(Full, handler, send_limit=1000)) as sock:
                accepted = 0
                while sock.send_data(peer.getsockname(), TRAFFIC, b"%03d" % accepted + bytes(97)):
                    accepted += 1
                assert accepted == 10
                sock.send(b"stun is lost", peer.getsockname())
                Full.full = False
                await handler.room.wait()
                assert [int(peer.recv(200)[:3]) for _ in range(accepted)] == list(range(accepted))
                assert sock.send_data(peer.getsockname(), TRAFFIC, b"again")
                assert peer.recv(100) == b"again"

        run(main())

    def test_what_waits_for_a_lost_path_is_forgotten(self) -> None:
        class Full(socket.socket):
            def sendto(self, *args: object) -> int:
                raise BlockingIOError

        async def main() -> None:
            with bind_udp(HOST, None) as peer, closing(wrapped(Full, Datagrams(), send_limit=100)) as sock:
                assert sock.send_data(peer.getsockname(), TRAFFIC, bytes(100))
                assert not sock.send_data(peer.getsockname(), TRAFFIC, b"x")
                sock.discard(peer.getsockname())
                assert sock.send_data(peer.getsockname(), TRAFFIC, b"x")

        run(main())

    def test_too_long_a_message_is_misuse(self) -> None:
        async def main() -> None:
            sock = network().open_udp(HOST, None, Datagrams())
            with closing(sock), pytest.raises(ValueError, match="65508 bytes"):
                sock.send_data((HOST, 9), TRAFFIC, bytes(MAX_DATAGRAM_BYTES + 1))

        run(main())

    def test_close_sends_what_was_joined(self) -> None:
        async def main() -> None:
            with bind_udp(HOST, None) as peer:
                with closing(network().open_udp(HOST, None, Datagrams())) as sock:
                    for number in range(5):
                        sock.send_data(peer.getsockname(), TRAFFIC, b"%d" % number)
                assert [peer.recv(9) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
                sock.close()

        run(main())


def wrapped(kind: type[socket.socket], handler: Datagrams, send_limit: int = 2**20) -> DatagramSocket:
    """A socket of ours that fails as ``kind`` does."""
    sock = kind(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((HOST, 0))
    return DatagramSocket(asyncio.get_running_loop(), sock, HOST, send_limit, handler)


# Opening connections


class TestConnecting:
    def test_connect_and_accept(self, on_loop: Runner) -> None:
        async def main() -> None:
            here, there = Streams(network()), Streams(network())
            with closing(there.network.listen(HOST, None, there)) as listener:
                dialling = here.network.connect(HOST, listener.address, 5.0, admitted_path(), here)
                await here.event("connected")
                await there.event("accepted")
                (accepted,) = there.accepted_connections
                assert accepted.remote == dialling.local
                dialling.send_data(b"ping")
                assert await there.event("data") == b"ping"
                accepted.send_data(b"pong")
                assert await here.event("data") == b"pong"
                for connection in (dialling, accepted):
                    connection.abort()
                    assert not connection.is_open

        on_loop(main())

    def test_from_the_listeners_port(self, on_loop: Runner) -> None:
        async def main() -> None:
            here, there = Streams(network()), Streams(network())
            ours, theirs = (each.network.listen(HOST, None, each) for each in (here, there))
            with closing(ours), closing(theirs):
                dialling = here.network.connect(HOST, theirs.address, 5.0, admitted_path(), here, listener=ours)
                await here.event("connected")
                assert dialling.local == ours.address
                await there.event("accepted")
                assert there.accepted_connections[0].remote == ours.address
                for connection in (dialling, *there.accepted_connections):
                    connection.abort()

        on_loop(main())

    def test_a_connection_that_the_listener_has_already_is_taken(self) -> None:
        async def main() -> None:
            here, there = Streams(network()), Streams(network())
            ours, theirs = (each.network.listen(HOST, None, each) for each in (here, there))
            with closing(ours), closing(theirs):
                first = there.network.connect(HOST, ours.address, 5.0, admitted_path(), there, listener=theirs)
                await here.event("accepted")
                here.network.connect(HOST, theirs.address, 5.0, admitted_path(), here, listener=ours)
                assert await here.event("failed") is Failure.ADDRESS_TAKEN
                for connection in (first, *here.accepted_connections):
                    connection.abort()

        run(main())

    def test_refused(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as closed:
                remote = address_of(closed)
            handler = Streams(network())
            connection = handler.network.connect(HOST, remote, 5.0, admitted_path(), handler)
            assert await handler.event("failed") is Failure.REFUSED
            assert not connection.is_open
            assert (HOST, connection.local.port) not in LEASES

        on_loop(main())

    @pytest.mark.parametrize("has_user_timeout", [True, False])
    def test_timed_out(self, has_user_timeout: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the kernel, or where it has no such option by a timer."""
        if not has_user_timeout:
            monkeypatch.setattr("ice_tcp.net.streams.USER_TIMEOUT", None)

        async def main() -> None:
            with socket.socket() as busy:
                busy.bind((HOST, 0))
                busy.listen(0)
                with socket.create_connection(busy.getsockname()):  # its queue is full: more SYNs are dropped
                    handler = Streams(network())
                    handler.network.connect(HOST, address_of(busy), 0.3, admitted_path(), handler)
                    assert await handler.event("failed") is Failure.TIMED_OUT

        run(main())

    def test_a_socket_does_not_connect_to_itself(self, on_loop: Runner) -> None:
        async def main() -> None:
            handler = Streams(network())
            sock = bind_connector(HOST, None)
            connection: PeerConnection = Connection(asyncio.get_running_loop(), sock, HOST, admitted_path(), handler)
            connection.connect(connection.local, 5.0)
            assert await handler.event("failed") is Failure.SELF_CONNECT
            assert not connection.is_open

        on_loop(main())

    def test_no_route(self) -> None:
        async def main() -> None:
            handler = Streams(network())
            handler.network.connect(HOST, TransportAddress("203.0.113.1", 9), 5.0, admitted_path(), handler)
            assert await handler.event("failed") in (Failure.UNREACHABLE, Failure.OTHER)

        run(main())

    def test_a_name_is_no_address(self) -> None:
        async def main() -> None:
            handler = Streams(network())
            handler.network.connect(HOST, TransportAddress("peer.example", 9), 5.0, admitted_path(), handler)
            assert await handler.event("failed") is Failure.UNREACHABLE

        run(main())

    def test_an_address_that_is_not_ours(self) -> None:
        async def main() -> None:
            handler = Streams(network())
            remote = TransportAddress(HOST, 9)
            with pytest.raises(NetworkError) as caught:
                handler.network.connect("192.0.2.77", remote, 5.0, admitted_path(), handler)
            assert caught.value.failure is Failure.ADDRESS_UNAVAILABLE

        run(main())

    def test_close_while_connecting_is_silent(self) -> None:
        async def main() -> None:
            handler = Streams(network())
            with plain_listener() as listener:
                connection = handler.network.connect(
                    HOST, address_of(listener), 5.0, StreamPath(early_limit=1, send_limit=1), handler
                )
                assert not connection.close()
                await asyncio.sleep(ONE_TURN)
            assert handler.events.empty()

        run(main())

    def test_without_descriptors_the_listener_waits_and_then_accepts(self) -> None:
        class Exhausted(socket.socket):
            calls = 0

            def accept(self) -> tuple[socket.socket, SocketAddress]:
                Exhausted.calls += 1
                if Exhausted.calls < 3:
                    raise OSError(errno.EMFILE, "too many open files")
                return super().accept()

        async def main() -> None:
            handler = Streams(network())
            sock = Exhausted()
            sock.bind((HOST, 0))
            sock.listen()
            sock.setblocking(False)
            listener = Listener(asyncio.get_running_loop(), sock, HOST, handler)
            with closing(listener), socket.create_connection((HOST, listener.address.port)):
                await handler.event("accepted")
                handler.accepted_connections[0].abort()
            # Twice in vain, once with success, and once more to see that there is no other: no busy loop.
            assert Exhausted.calls <= 4

        run(main())

    def test_a_listener_closed_while_it_waits_stays_closed(self) -> None:
        class Exhausted(socket.socket):
            def accept(self) -> tuple[socket.socket, SocketAddress]:
                tried.set()
                raise OSError(errno.EMFILE, "too many open files")

        tried = asyncio.Event()

        async def main() -> None:
            sock = Exhausted()
            sock.bind((HOST, 0))
            sock.listen()
            sock.setblocking(False)
            listener = Listener(asyncio.get_running_loop(), sock, HOST, Streams(network()))
            with socket.create_connection((HOST, listener.address.port)):
                await tried.wait()
                listener.close()
                listener.close()
            assert (HOST, listener.address.port) not in LEASES

        run(main())


# Connections


class TestConnection:
    def test_frames_of_all_sizes_arrive_in_order(self, on_loop: Runner) -> None:
        rng = random.Random(7)
        messages = [rng.randbytes(size) for size in [1, 2, 1200, 65535, 16384, 4096, 4097, *range(1, 2000, 13)] * 3]

        async def main() -> None:
            here, there = Streams(network()), Streams(network())
            with closing(there.network.listen(HOST, None, there)) as listener:
                connection = here.network.connect(HOST, listener.address, 5.0, admitted_path(2**24), here)
                await here.event("connected")
                for message in messages:
                    assert connection.send_data(message)
                for message in messages:
                    assert await there.event("data") == message
                for each in (connection, *there.accepted_connections):
                    each.abort()

        on_loop(main())

    def test_a_single_message_leaves_at_once(self) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, _, peer = await dialled(listener)
                with closing(peer):
                    for _ in range(4):
                        connection.send_data(b"now")
                        assert peer.recv(100) == frame(b"now")
                        await asyncio.sleep(ONE_TURN)
                connection.abort()

        run(main())

    def test_stun_overtakes_waiting_data_but_not_a_begun_frame(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener, admitted_path(2**24))
                with closing(peer):
                    while connection.path.pending < 2**22:
                        connection.send_data(b"d" * 50_000)
                        await asyncio.sleep(ONE_TURN)
                    connection.send_stun(stun())
                    connection.send_data(b"last")
                    packets = await read_packets(peer, lambda packet: packet == b"last")
                    position = packets.index(stun())
                    assert len(packets) - position > 2**22 // 50_000
                    assert [packet for packet in packets if not is_stun(packet)][:-1] == [b"d" * 50_000] * (
                        len(packets) - 2
                    )
                    await handler.event("writable")
                connection.abort()

        on_loop(main())

    def test_the_sender_learns_of_a_peer_that_does_not_read_and_memory_is_bounded(self) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener, admitted_path(100_000))
                with closing(peer):
                    refused = 0
                    while refused < 5:
                        refused = 0 if connection.send_data(bytes(10_000)) else refused + 1
                        await asyncio.sleep(ONE_TURN)
                    assert connection.path.pending <= 110_004
                    asyncio.get_running_loop().add_reader(peer, peer.recv, 2**20)
                    await handler.event("writable")
                    assert connection.send_data(b"again")
                    asyncio.get_running_loop().remove_reader(peer)
                connection.abort()

        run(main())

    def test_paused_reading_keeps_the_rest_in_the_kernel(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener)
                with closing(peer):
                    connection.pause_reading()
                    peer.send(frame(b"later"))
                    for _ in range(5):
                        await asyncio.sleep(ONE_TURN)
                    assert handler.events.empty()
                    connection.resume_reading()
                    assert await handler.event("data") == b"later"
                connection.abort()

        on_loop(main())

    def test_data_before_fin_is_delivered_first(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener)
                peer.send(frame(b"last words"))
                peer.close()
                assert await handler.event("data") == b"last words"
                assert await handler.event("closed") is connection
                connection.abort()

        on_loop(main())

    def test_reset(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener)
                reset(peer)
                assert await handler.event("failed") is Failure.RESET
                assert not connection.is_open

        on_loop(main())

    def test_what_came_before_a_reset_is_delivered_though_a_write_finds_it_out(self) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener)
                connection.pause_reading()
                connection.deliver_one = within_a_callback_only
                peer.send(frame(b"last words"))
                reset(peer)
                while connection.is_open:
                    connection.send_data(b"into the void")
                assert await handler.event("data") == b"last words"
                assert await handler.event("failed") is Failure.RESET

        run(main())

    def test_close_delivers_all_that_was_sent_and_then_the_end(self, on_loop: Runner) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener, admitted_path(2**24))
                with closing(peer):
                    for _ in range(100):
                        connection.send_data(bytes(50_000))
                    peer.send(frame(b"unread, which would make it a reset"))
                    assert connection.close()
                    packets = await read_packets(peer, None)
                    assert packets == [bytes(50_000)] * 100
                assert await handler.event("gone") is connection
                assert (HOST, connection.local.port) not in LEASES

        on_loop(main())

    def test_close_does_not_wait_for_ever(self) -> None:
        async def main() -> None:
            with plain_listener() as listener:
                connection, handler, peer = await dialled(listener)
                with closing(peer):
                    connection.close()
                    assert await handler.event("gone") is connection

        run(main())


async def read_packets(peer: socket.socket, until: Callable[[bytes], bool] | None) -> list[bytes]:
    """The packets that a plain socket receives until one fits, or until the end."""
    splitter = FrameSplitter()
    packets: list[bytes] = []
    while until is None or not packets or not until(packets[-1]):
        chunk = await asyncio.get_running_loop().sock_recv(peer, 65536)
        if not chunk:
            assert not splitter.unfinished
            break
        packets += splitter.feed(chunk)
    return packets


def within_a_callback_only(message: bytes) -> bool:
    """A `Connection.deliver_one` that runs the task that reads, as no other task may do."""
    raise AssertionError(f"{message!r} was delivered within the task that writes")


def reset(peer: socket.socket) -> None:
    """Close with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
