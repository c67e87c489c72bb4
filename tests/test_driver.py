from __future__ import annotations

import asyncio
import gc
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from candidates.policy.sections import Limits
from ice_tcp.core.commands import (
    Admit,
    Close,
    Command,
    Connect,
    Failure,
    LegId,
    Listen,
    ListenerId,
    OpenUdp,
    QueryId,
    SendDatagram,
    SendStream,
    ServerEndpoint,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
    Use,
)
from ice_tcp.core.events import AgentState, Event, Role, StateChanged
from ice_tcp.driver import PACER, Driver, open_session
from ice_tcp.errors import NoPathError
from ice_tcp.net.resolve import Resolver
from ice_tcp.net.sockets import bind_udp
from tests.loops import Runner, on_loop, run
from tests.test_asyncio_net import HOST, ONE_TURN, accept, address_of, plain_listener, read_packets, reset
from tests.test_datapath import stun
from tests.test_framing import frame

__all__ = ["on_loop"]

UDP = SocketId(1)
LISTENER = ListenerId(2)
STREAM = StreamId(3)
ACCEPTED = StreamId(4)


class ScriptedCore:
    """Records its inputs, and answers with what the test put into ``answers``."""

    def __init__(self) -> None:
        self.inputs: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
        self.instants: list[float] = []
        self.answers: dict[str, Callable[..., list[Command]]] = {}
        self.accepts: StreamId | None = ACCEPTED
        self.timer: float | None = None
        self.pending_commands: list[Command] = []
        self.pending_events: list[Event] = []

    async def input(self, name: str) -> tuple[Any, ...]:
        """The arguments of the next input, which has this name."""
        kind, arguments = await self.inputs.get()
        assert kind == name, f"{kind}{arguments} instead of {name}"
        return arguments

    def _input(self, name: str, *arguments: Any) -> None:
        *rest, now = arguments
        self.instants.append(now)
        self.inputs.put_nowait((name, tuple(rest)))
        if name in self.answers:
            self.pending_commands += self.answers[name](*rest)

    def do(self, *commands: Command) -> Callable[[float], None]:
        """An input of the application that only commands."""
        return lambda _now: self.pending_commands.extend(commands)

    def socket_opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None:
        self._input("socket_opened", handle, address, now)

    def socket_failed(self, handle: SocketId | ListenerId, failure: Failure, now: float) -> None:
        self._input("socket_failed", handle, failure, now)

    def datagram_received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> None:
        self._input("datagram_received", socket, source, data, now)

    def stream_connected(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        self._input("stream_connected", stream, local, now)

    def stream_accepted(self, listener: ListenerId, remote: TransportAddress, now: float) -> StreamId | None:
        self._input("stream_accepted", listener, remote, now)
        return self.accepts

    def stream_received(self, stream: StreamId, data: bytes, now: float) -> None:
        self._input("stream_received", stream, data, now)

    def stream_closed(self, stream: StreamId, now: float) -> None:
        self._input("stream_closed", stream, now)

    def stream_failed(self, stream: StreamId, failure: Failure, now: float) -> None:
        self._input("stream_failed", stream, failure, now)

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        self._input("resolved", query, endpoints, now)

    def resolve_failed(self, query: QueryId, text: str, now: float) -> None:
        self._input("resolve_failed", query, text, now)

    def leg_opened(self, leg: LegId, local: TransportAddress, now: float) -> None:
        self._input("leg_opened", leg, local, now)

    def leg_received(self, leg: LegId, message: bytes, now: float) -> None:
        self._input("leg_received", leg, message, now)

    def leg_lost(self, leg: LegId, failure: Failure, text: str, now: float) -> None:
        self._input("leg_lost", leg, failure, text, now)

    def relayed(self, leg: LegId, peer: TransportAddress, data: bytes, now: float) -> None:
        self._input("relayed", leg, peer, data, now)

    def timer_expired(self, now: float) -> None:
        self.timer = None
        self._input("timer_expired", now)

    def close(self, now: float) -> None:
        self._input("close", now)

    def commands(self) -> list[Command]:
        commands, self.pending_commands = self.pending_commands, []
        return commands

    def events(self) -> list[Event]:
        events, self.pending_events = self.pending_events, []
        return events

    def next_timer(self) -> float | None:
        return self.timer


class Session:
    """A driver with its scripted core."""

    def __init__(self, resolver: Resolver | None = None, **limits: int) -> None:
        self.core = ScriptedCore()
        self.events: list[Event] = []
        self.driver = Driver(
            self.core,
            components=2,
            limits=Limits(**limits),
            rng=random.Random(1),
            on_event=self.events.append,
            resolver=resolver,
        )
        self.component = self.driver.components[1]

    def do(self, *commands: Command) -> None:
        self.driver.call(self.core.do(*commands))

    async def recv(self) -> bytes:
        """The next message of component 1."""
        inbox = self.component.inbox
        if not inbox.messages:
            message = await inbox.arrival()
            if message is not None:
                return message
        return inbox.take()

    async def open_udp(self) -> TransportAddress:
        self.do(OpenUdp(UDP, 1, HOST))
        handle, address = await self.core.input("socket_opened")
        assert handle == UDP
        assert isinstance(address, TransportAddress)
        return address

    async def connect(self, listener: socket.socket) -> socket.socket:
        """A connection in use as component 1's path; returns the other end."""
        self.do(Connect(STREAM, 1, HOST, address_of(listener), 5.0))
        peer = await accept(listener)
        handle, _ = await self.core.input("stream_connected")
        assert handle == STREAM
        peer.send(frame(stun()))
        assert await self.core.input("stream_received") == (STREAM, stun())
        self.do(Admit(TcpPath(STREAM)), Use(1, TcpPath(STREAM)))
        return peer


@asynccontextmanager
async def session(**limits: int) -> AsyncIterator[Session]:
    opened = Session(None, **limits)
    try:
        yield opened
    finally:
        legs = opened.core.answers.pop("close", list)
        opened.core.answers["close"] = lambda: [*legs(), *(Close(each) for each in (UDP, LISTENER, STREAM, ACCEPTED))]
        await opened.driver.close()


async def turns(count: int) -> None:
    """Let the loop do what it has to do, ``count`` times."""
    for _ in range(count):
        await asyncio.sleep(ONE_TURN)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await turns(1)
    raise AssertionError("it never happened")


# The pump


def test_commands_are_executed_in_order_before_events_are_told() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as peer:
                await s.open_udp()
                remote = address_of(peer)
                s.core.pending_events.append(StateChanged(AgentState.CHECKING))
                seen: list[bytes] = []
                s.driver._on_event = lambda _: seen.append(peer.recv(100))  # noqa: SLF001 - to look in between
                s.do(SendDatagram(UDP, remote, b"one"), SendDatagram(UDP, remote, b"two"), Close(UDP))
                assert seen == [b"one"]
                assert peer.recv(100) == b"two"

    run(main())


def test_an_input_that_comes_while_commands_are_executed_waits_for_its_turn() -> None:
    async def main() -> None:
        async with session() as s:
            # The failure of the first is an input; its answer must come after the second command.
            s.core.answers["socket_failed"] = lambda *_: [OpenUdp(UDP, 1, HOST)]
            s.do(OpenUdp(SocketId(9), 1, "192.0.2.77"), Listen(LISTENER, 1, HOST))
            assert await s.core.input("socket_failed") == (SocketId(9), Failure.ADDRESS_UNAVAILABLE)
            assert (await s.core.input("socket_opened"))[0] == LISTENER
            assert (await s.core.input("socket_opened"))[0] == UDP

    run(main())


def test_misuse_is_told_the_caller_and_the_pump_goes_on() -> None:
    async def main() -> None:
        def misused(now: float) -> None:
            raise ValueError("not like this")

        async with session() as s:
            with pytest.raises(ValueError, match="not like this"):
                s.driver.call(misused)
            await s.open_udp()

    run(main())


def test_the_timer_expires_not_before_its_instant(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            loop = asyncio.get_running_loop()
            at = loop.time() + 0.01
            s.core.timer = at + 60
            s.do()
            s.core.timer = at
            s.do()
            await s.core.input("timer_expired")
            assert s.core.instants[-1] >= at
            assert s.core.instants == sorted(s.core.instants)

    on_loop(main())


def test_a_timer_that_was_taken_back_does_not_expire() -> None:
    async def main() -> None:
        async with session() as s:
            loop = asyncio.get_running_loop()
            s.core.timer = loop.time() + 0.005
            s.do()
            s.core.timer = None
            s.do()
            s.core.timer = loop.time() + 0.01
            s.do()
            await s.core.input("timer_expired")
            assert s.core.inputs.empty()

    run(main())


def test_commands_for_what_is_gone_do_nothing() -> None:
    async def main() -> None:
        async with session() as s:
            remote = TransportAddress(HOST, 9)
            s.do(
                SendDatagram(UDP, remote, b"x"),
                SendStream(STREAM, stun()),
                Admit(TcpPath(STREAM)),
                Admit(UdpPath(UDP, remote)),
                Use(1, TcpPath(STREAM)),
                Close(STREAM),
            )
            assert s.core.inputs.empty()
            with pytest.raises(NoPathError):
                s.component.outlet.transmit(b"x")
            assert s.driver.traffic(TcpPath(STREAM)) is None
            assert s.driver.traffic(UdpPath(UDP, remote)) is None

    run(main())


def test_all_agents_of_a_process_share_one_pacer() -> None:
    async def main() -> None:
        pacers = set()
        for _ in range(2):
            core, driver = open_session(
                Role.CONTROLLING,
                Policy.default(),
                rng=random.Random(1),
                components=1,
                trace=None,
                on_event=lambda _: None,
            )
            pacers.add(core._context.pacer)  # noqa: SLF001 - it has no other way to show it
            await driver.close()
        assert pacers == {PACER}

    run(main())


# UDP


def test_stun_goes_to_the_core_and_data_waits_until_its_source_is_admitted(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as peer:
                address = await s.open_udp()
                here = (HOST, address.port)
                peer.sendto(b"early", here)
                peer.sendto(stun(), here)
                assert await s.core.input("datagram_received") == (UDP, address_of(peer), stun())
                assert not s.component.inbox.messages
                path = UdpPath(UDP, address_of(peer))
                s.do(Admit(path), Use(1, path))
                assert await s.recv() == b"early"
                peer.sendto(b"later", here)
                assert await s.recv() == b"later"
                await s.component.outlet.send(b"back")
                assert peer.recv(100) == b"back"
                traffic = s.driver.traffic(path)
                assert traffic is not None
                assert (traffic.packets_sent, traffic.bytes_sent) == (1, 4)
                assert (traffic.packets_received, traffic.bytes_received) == (2, 10)

    on_loop(main())


def test_data_of_unknown_sources_never_reaches_the_application_and_is_counted() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as stranger, bind_udp(HOST, None) as peer:
                address = await s.open_udp()
                for _ in range(100):
                    stranger.sendto(b"buy now", (HOST, address.port))
                peer.sendto(stun(), (HOST, address.port))
                await s.core.input("datagram_received")
                s.do(Admit(UdpPath(UDP, address_of(peer))))
                assert not s.component.inbox.messages
                assert s.driver.discarded(1) == 100 - 64
                assert s.driver.discarded(2) == 0

    run(main())


def test_an_application_that_does_not_read_loses_datagrams_but_not_stun() -> None:
    async def main() -> None:
        async with session(receive_bytes=65536) as s:
            with bind_udp(HOST, None) as peer:
                address = await s.open_udp()
                s.do(Admit(UdpPath(UDP, address_of(peer))))
                for _ in range(100):
                    peer.sendto(bytes(1200), (HOST, address.port))
                peer.sendto(stun(), (HOST, address.port))
                await s.core.input("datagram_received")
                kept = len(s.component.inbox.take_all())
                assert 65536 <= kept * (1200 + 64) < 65536 + 2 * 1300
                assert s.driver.discarded(1) == 100 - kept

    run(main())


def test_ports_taken() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as taken:
                port = taken.getsockname()[1]
                s.do(OpenUdp(UDP, 1, HOST, (port, port)))
                assert await s.core.input("socket_failed") == (UDP, Failure.PORTS_TAKEN)

    run(main())


# TCP


def test_accepted_connections_get_the_cores_name(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            s.do(Listen(LISTENER, 1, HOST))
            _, address = await s.core.input("socket_opened")
            with socket.create_connection((HOST, address.port)) as peer:
                assert await s.core.input("stream_accepted") == (LISTENER, address_of(peer))
                peer.send(frame(stun()))
                assert await s.core.input("stream_received") == (ACCEPTED, stun())
                s.do(SendStream(ACCEPTED, stun(b"resp")))
                assert peer.recv(100) == frame(stun(b"resp"))

    on_loop(main())


def test_a_connection_that_the_core_refuses_is_closed() -> None:
    async def main() -> None:
        async with session() as s:
            s.core.accepts = None
            s.do(Listen(LISTENER, 1, HOST))
            _, address = await s.core.input("socket_opened")
            with socket.create_connection((HOST, address.port)) as peer:
                await s.core.input("stream_accepted")
                assert peer.recv(100) == b""

    run(main())


def test_a_connect_from_a_listener_that_is_gone_fails() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(Connect(STREAM, 1, HOST, TransportAddress(HOST, 9), 5.0, LISTENER))
            assert await s.core.input("stream_failed") == (STREAM, Failure.ADDRESS_UNAVAILABLE)

    run(main())


def test_a_connect_from_an_address_that_is_gone_fails() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(Connect(STREAM, 1, "192.0.2.77", TransportAddress(HOST, 9), 5.0))
            assert await s.core.input("stream_failed") == (STREAM, Failure.ADDRESS_UNAVAILABLE)

    run(main())


def test_what_is_no_ice_agent_is_found_out(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                s.do(Connect(STREAM, 1, HOST, address_of(listener), 5.0))
                with closing(await accept(listener)) as peer:
                    await s.core.input("stream_connected")
                    peer.send(b"HTTP/1.1 400 Bad Request\r\n")
                    assert await s.core.input("stream_failed") == (STREAM, Failure.NOT_STUN)
                    assert peer.recv(100) == b""

    on_loop(main())


def test_too_much_early_data_ends_a_connection() -> None:
    async def main() -> None:
        async with session(early_bytes=1000) as s:
            with plain_listener() as listener:
                s.do(Connect(STREAM, 1, HOST, address_of(listener), 5.0))
                with closing(await accept(listener)) as peer:
                    await s.core.input("stream_connected")
                    peer.send(frame(stun()) + frame(bytes(1001)))
                    await s.core.input("stream_received")
                    assert await s.core.input("stream_failed") == (STREAM, Failure.TOO_MUCH_EARLY_DATA)

    run(main())


def test_a_chunk_whose_stun_admits_may_hold_more_than_the_early_limit() -> None:
    async def main() -> None:
        async with session(early_bytes=1000) as s:
            s.core.answers["stream_received"] = lambda *_: [Admit(TcpPath(STREAM))]
            with plain_listener() as listener:
                s.do(Connect(STREAM, 1, HOST, address_of(listener), 5.0))
                with closing(await accept(listener)) as peer:
                    await s.core.input("stream_connected")
                    peer.send(frame(stun()) + frame(bytes(5000)))
                    await s.core.input("stream_received")
                    assert await s.recv() == bytes(5000)

    run(main())


def test_send_then_close_needs_no_guard(on_loop: Runner) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                peer = await s.connect(listener)
                with closing(peer):
                    s.do(SendStream(STREAM, stun(b"last")), Close(STREAM))
                    assert await read_packets(peer, None) == [stun(b"last")]

    on_loop(main())


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_the_end_of_a_connection_is_told_once_and_its_data_is_kept(end: str) -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                peer = await s.connect(listener)
                peer.send(frame(b"last words"))
                assert await s.recv() == b"last words"
                if end == "fin":
                    peer.close()
                    assert await s.core.input("stream_closed") == (STREAM,)
                else:
                    reset(peer)
                    assert await s.core.input("stream_failed") == (STREAM, Failure.RESET)
                s.do(SendStream(STREAM, stun()), Close(STREAM))
                assert s.core.inputs.empty()

    run(main())


def test_a_slow_reader_bounds_memory_while_consent_still_finds_its_answers(on_loop: Runner) -> None:
    async def main() -> None:
        async with session(receive_bytes=100_000) as s:
            with plain_listener() as listener:
                peer = await s.connect(listener)
                loop = asyncio.get_running_loop()
                with closing(peer):
                    flood = asyncio.create_task(loop.sock_sendall(peer, frame(bytes(1000)) * 20_000))
                    inbox = s.component.inbox
                    await until(lambda: inbox.is_full)
                    await turns(50)
                    kept = len(inbox.messages)
                    assert kept < 1000, "reading has stopped"
                    s.do(SendStream(STREAM, stun()))
                    await until(lambda: len(inbox.messages) > kept)
                    for _ in range(20):
                        s.do(SendStream(STREAM, stun()))
                        await turns(1)
                    assert len(inbox.messages) < 1000, "the window is bounded"
                    for _ in range(20_000):
                        assert await s.recv() == bytes(1000)
                    await flood

    on_loop(main())


def test_the_sender_waits_for_a_slow_peer_and_goes_on(on_loop: Runner) -> None:
    async def main() -> None:
        async with session(send_bytes=65536) as s:
            with plain_listener() as listener:
                peer = await s.connect(listener)

                async def send() -> None:
                    for _ in range(3000):
                        await s.component.outlet.send(bytes(10_000))
                    await s.component.outlet.send(b"last")

                with closing(peer):
                    task = asyncio.create_task(send())
                    await turns(100)
                    assert not task.done()
                    assert len(await read_packets(peer, lambda packet: packet == b"last")) == 3001
                    await task

    on_loop(main())


def test_a_waiting_sender_learns_that_the_path_is_gone() -> None:
    async def main() -> None:
        async with session(send_bytes=65536) as s:
            s.core.answers["stream_failed"] = lambda *_: [Use(1, None)]
            with plain_listener() as listener:
                peer = await s.connect(listener)

                async def send() -> None:
                    while True:
                        await s.component.outlet.send(bytes(10_000))

                task = asyncio.create_task(send())
                await turns(100)
                reset(peer)
                with pytest.raises(NoPathError):
                    await task

    run(main())


def test_a_cancelled_sender_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with session(send_bytes=65536) as s:
            with plain_listener() as listener, closing(await s.connect(listener)) as peer:

                async def send() -> None:
                    for _ in range(3000):
                        await s.component.outlet.send(bytes(10_000))

                cancelled, waiting = asyncio.create_task(send()), asyncio.create_task(send())
                await turns(100)
                cancelled.cancel()
                drained = asyncio.create_task(read_packets(peer, lambda packet: packet == b"last"))
                await waiting
                assert cancelled.cancelled()
                await s.component.outlet.send(b"last")
                await drained

    run(main())


# Ending


def test_close_twice_at_once_and_cancelled() -> None:
    async def main() -> None:
        s = Session()
        s.core.answers["close"] = lambda: [Close(STREAM)]
        with plain_listener() as listener, closing(await s.connect(listener)):
            # The peer does not close, so this would take its time.
            closings = [asyncio.create_task(s.driver.close()) for _ in range(2)]
            await asyncio.sleep(ONE_TURN)
            closings[0].cancel()
            assert isinstance((await asyncio.gather(*closings, return_exceptions=True))[0], asyncio.CancelledError)

    run(main())


def test_closed_sessions_leave_no_socket() -> None:
    async def main() -> None:
        before = {id(each) for each in gc.get_objects() if issubclass(type(each), socket.socket)}
        async with session() as s:
            await s.open_udp()
            s.do(Listen(LISTENER, 1, HOST))
            await s.core.input("socket_opened")
            with plain_listener() as listener, closing(await s.connect(listener)):
                pass
        left = [each for each in gc.get_objects() if issubclass(type(each), socket.socket) and each.fileno() >= 0]
        assert {id(each) for each in left} <= before

    run(main())
