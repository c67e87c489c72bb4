"""What strangers and broken peers may send to an agent, and what machines may lack: told or dropped, never worse."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import repeat
from typing import Any

import pytest

from candidates.candidate import Candidate, InterfaceAddress, TcpType
from ice_tcp import Agent, ConnectError, Role, Verdict, stun
from ice_tcp.core.events import PairState
from ice_tcp.core.trace import DropReason, Entry, MessageDropped, StreamEnded
from ice_tcp.net.sockets import bind_udp
from tests.agents import SO, TCP, UDP, agents, connected, exchange, policy
from tests.core.net import AWAY, Net, Node, address
from tests.core.peer import PARAMETERS, Peer
from tests.loops import run
from tests.test_asyncio_net import HOST
from tests.test_datapath import LOOKALIKES
from tests.test_driver import turns
from tests.test_framing import frame

UNKNOWN_REQUIRED = 0x7000
UNKNOWN_OPTIONAL = 0xC777
PASSIVE = "transports: [tcp]\ntcp_types: [passive]\n"


@pytest.fixture
def node() -> Node:
    """A controlled core that knows its peer's parameters and no candidate."""
    node = Net().node(Role.CONTROLLED)
    node.gather()
    Peer(node).introduce(end=False)
    return node


# Messages that are valid but strange


def test_an_oversized_request_is_answered_like_any_other(node: Node) -> None:
    peer = Peer(node)
    answer = peer.asks(peer.udp_path(), peer.request(extra=[(UNKNOWN_OPTIONAL, bytes(60_000))]))
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS


def test_the_answer_to_thousands_of_unknown_attributes_is_smaller_than_the_request(node: Node) -> None:
    peer = Peer(node)
    unknown = [(UNKNOWN_REQUIRED + number % 0xFFF, b"") for number in range(15_000)]
    request = peer.request(extra=unknown)
    answer = peer.asks(peer.udp_path(), request)
    assert answer is not None
    assert answer.error_code is not None
    assert answer.error_code.code == 420
    assert len(node.responses[-1].data) < len(request)


@pytest.mark.parametrize("priority", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_any_priority_makes_a_candidate_of_a_priority_that_is_allowed(node: Node, priority: int) -> None:
    """RFC 8445 s5.1.2: from 1 to 2**31 - 1."""
    peer = Peer(node)
    assert peer.asks(peer.udp_path(), peer.request(priority=priority)) is not None
    (candidate,) = node.agent.remote_candidates
    assert candidate.priority == min(max(priority, 1), 2**31 - 1)


def test_of_two_usernames_the_first_counts(node: Node) -> None:
    """RFC 8489 s14: only the first occurrence needs to be processed, whatever it says."""
    peer = Peer(node)
    ours = f"{node.agent.local_parameters.ufrag}:{PARAMETERS.ufrag}"
    answers = [
        peer.asks(peer.udp_path(), peer.request(username=first, extra=[stun.username(second)]))
        for first, second in ((ours, "nobody:peer"), ("nobody:peer", ours))
    ]
    assert [answer.message_class if answer else None for answer in answers] == [
        stun.MessageClass.SUCCESS,
        stun.MessageClass.ERROR,
    ]


def test_a_response_from_the_port_of_a_stranger_is_dropped(node: Node) -> None:
    """Its transaction id is right, its password is not: the check goes on."""
    peer = Peer(node)
    peer.asks(peer.udp_path(5000))
    sent = peer.last()
    node.receive(peer.udp_path(5001), peer.response(sent, password="thisIsNotThePassword22"))
    assert [record.reason for record in node.traced(MessageDropped)] == [DropReason.ASYMMETRIC]
    assert node.pair_states() == {address(AWAY, 5000): PairState.IN_PROGRESS}


# Payloads


@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
def test_rtp_and_dtls_that_resemble_stun_reach_the_application(kind: str) -> None:
    packets = [packet for packet in LOOKALIKES if packet]

    async def main() -> None:
        async with connected(kind) as (one, two):
            for packet in packets:
                await one.send(packet)
            assert [await two.recv() for _ in packets] == packets

    run(main())


def test_data_before_validation_is_kept_until_its_source_is_authenticated() -> None:
    """RFC 8445 s12.2: a peer may send as soon as its own check succeeded, which we cannot know yet."""

    async def main() -> None:
        async with agents(UDP) as (one, _):
            await one.gather()
            (candidate,) = [candidate async for candidate in one.local_candidates()]
            place = (HOST, candidate.address.port)
            with bind_udp(HOST, None) as peer, bind_udp(HOST, None) as stranger:
                stranger.sendto(b"of nobody", place)
                peer.sendto(b"early", place)
                peer.sendto(request_for(one), place)
                peer.sendto(b"later", place)
                assert await one.recv() == b"early"
                assert await one.recv() == b"later"
                stranger.sendto(b"of nobody still", place)
                peer.sendto(b"last", place)
                assert await one.recv() == b"last"

    run(main())


def test_data_of_strangers_is_counted_and_bounded() -> None:
    async def main() -> None:
        async with connected(UDP + "limits: {early_bytes: 1000}\n") as (one, two):
            path = two.selected_path()
            assert path is not None
            with bind_udp(HOST, None) as stranger:
                for _ in range(50):
                    stranger.sendto(bytes(100), (HOST, path.local.address.port))
            await one.send(b"of the peer")
            assert await two.recv() == b"of the peer"
            assert two.stats().packets_discarded == 40
        assert two.stats().packets_discarded == 40  # also when its sockets are gone

    run(main())


# Connections of strangers


def test_a_frame_that_never_completes_is_cut_off_however_busy_the_sender_is() -> None:
    assert verdict_on("timeouts: {idle: 0.15}\n", lambda request: drip(frame(request)[:-1])) is Verdict.IDLE


@pytest.mark.parametrize("excess", [-4, 4])
def test_a_frame_that_lies_about_its_length_ends_its_connection(excess: int) -> None:
    """What it holds is no STUN message then, and nothing else may come first (RFC 6544 s7.1)."""

    def lie(request: bytes) -> Iterator[bytes]:
        yield (len(request) + excess).to_bytes(2, "big") + request + bytes(4)

    assert verdict_on("", lie) is Verdict.NOT_STUN


def test_a_flood_on_a_connection_that_nobody_authenticated_ends_it() -> None:
    def flood(request: bytes) -> Iterator[bytes]:
        yield frame(request)
        yield from repeat(frame(bytes(1000)), 100)

    settings = "limits: {early_bytes: 10000}\n"
    assert verdict_on(settings, flood, password="thisIsNotThePassword22") is Verdict.TOO_MUCH_EARLY_DATA


def drip(data: bytes) -> Iterator[bytes]:
    """Byte by byte, and then nothing."""
    return (data[index : index + 1] for index in range(len(data)))


def verdict_on(settings: str, pieces: Callable[[bytes], Iterator[bytes]], *, password: str | None = None) -> Verdict:
    """Why an agent ended the connection of a stranger that sends ``pieces(request)``."""
    ended: list[Verdict] = []

    def note(_: float, record: Entry) -> None:
        if isinstance(record, StreamEnded):
            ended.append(record.verdict)

    async def main() -> None:
        async with Agent(Role.CONTROLLED, policy=policy(PASSIVE + settings), trace=note) as agent:
            place = await listening(agent)
            request = request_for(agent, password=password)
            with closing(await connect(place)) as stranger, suppress(ConnectionError):
                await send_and_drain(stranger, pieces(request))
            assert len(ended) == 1

    run(main())
    return ended[0]


def request_for(agent: Agent, *, password: str | None = None) -> bytes:
    """A check of the agent by a peer that knows it, with the right password unless another is given."""
    parameters = agent.local_parameters
    role = stun.ice_controlled if agent.role is Role.CONTROLLING else stun.ice_controlling
    return stun.encode(
        stun.MessageClass.REQUEST,
        stun.Method.BINDING,
        bytes(range(12)),
        [stun.username(f"{parameters.ufrag}:peer"), stun.priority(1), role(1)],
        key=stun.IntegrityKey.short_term(password or parameters.pwd),
    )


async def listening(agent: Agent) -> tuple[str, int]:
    """Where the gathered agent's only listener is."""
    await agent.gather()
    (candidate,) = [each async for each in agent.local_candidates() if each.tcptype is TcpType.PASSIVE]
    return HOST, candidate.address.port


async def connect(place: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, place)
    return sock


async def send_and_drain(sock: socket.socket, pieces: Iterator[bytes]) -> None:
    """Send the pieces, each by itself; then read until the other end closes the connection."""
    loop = asyncio.get_running_loop()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        await loop.sock_sendall(sock, piece)
        await turns(2)
    while await loop.sock_recv(sock, 65536):
        pass


# Machines that lack something


def test_interfaces_that_cannot_be_used_do_not_keep_the_others_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address may have gone since it was listed."""
    there_are(monkeypatch, InterfaceAddress("lo", "192.0.2.77"), InterfaceAddress("lo", HOST))

    async def main() -> None:
        async with agents() as (one, two):
            await asyncio.gather(one.gather(), two.gather())
            found = [candidate async for candidate in one.local_candidates()]
            assert {each.address.host for each in found if each.tcptype is not TcpType.ACTIVE} == {HOST}
            await exchange(one, two)
            await asyncio.gather(one.connect(), two.connect())
            await one.send(b"hello")
            assert await two.recv() == b"hello"

    run(main())


def test_without_any_usable_interface_the_verdict_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    there_are(monkeypatch, InterfaceAddress("eth7", "192.0.2.77"))

    async def main() -> None:
        async with agents("timeouts: {patience: 0.2}\nnomination: {grace: 0.1}\n") as (one, two):
            await one.gather()
            assert [candidate async for candidate in one.local_candidates()] == []
            one.set_remote_parameters(two.local_parameters)
            one.end_of_candidates()
            with pytest.raises(ConnectError) as caught:
                await one.connect()
            assert caught.value.verdict is Verdict.NO_LOCAL_CANDIDATES

    run(main())


def there_are(monkeypatch: pytest.MonkeyPatch, *addresses: InterfaceAddress) -> None:
    monkeypatch.setattr("ice_tcp.agent.host_addresses", lambda: list(addresses))


# Leftovers


@pytest.mark.parametrize("kind", [UDP, TCP, SO], ids=["udp", "tcp", "so"])
def test_cancelled_anywhere_no_timer_and_no_descriptor_is_left(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def session(ready: asyncio.Event) -> None:
        async with connected(kind) as (one, two):
            ready.set()
            await asyncio.gather(one.send(b"x"), two.recv(), one.recv())

    async def cancelled(*, connects: bool, steps: int) -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(session(ready))
        if connects:
            await ready.wait()
        await turns(steps)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        timers = noted_timers(loop, monkeypatch)
        before = descriptors()
        for steps in [*range(12), 15, 20, 30, 50, 80]:
            await cancelled(connects=False, steps=steps)
        for steps in range(5):
            await cancelled(connects=True, steps=steps)
        assert descriptors() == before
        assert [timer for timer in timers if not timer.cancelled() and timer.when() > loop.time()] == []

    run(main())


def noted_timers(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> list[asyncio.TimerHandle]:
    """The loop's own timers that are set from now on."""
    timers: list[asyncio.TimerHandle] = []
    call_at = loop.call_at

    def noted(when: float, *args: Any, **named: Any) -> asyncio.TimerHandle:
        timers.append(call_at(when, *args, **named))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    return timers


def descriptors() -> set[str]:
    """What this process has open, timers included, by number and kind."""
    with os.scandir("/proc/self/fd") as entries:
        return {f"{entry.name} {os.readlink(entry.path)}" for entry in entries if not is_listing(entry.path)}


def is_listing(path: str) -> bool:
    return os.readlink(path).startswith("/proc/")


def test_remote_candidates_after_the_end_and_duplicates_leave_the_connection_alone() -> None:
    async def main() -> None:
        async with connected() as (one, two):
            candidates: list[Candidate] = [candidate async for candidate in two.local_candidates()]
            before = one.selected_path()
            for candidate in candidates * 3:
                one.add_remote_candidate(candidate)
            one.end_of_candidates()
            await one.send(b"hello")
            assert await two.recv() == b"hello"
            assert one.selected_path() == before

    run(main())
