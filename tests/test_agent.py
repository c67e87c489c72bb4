from __future__ import annotations

import asyncio
import gc
import random
import socket
from contextlib import closing
from dataclasses import replace

import pytest

from candidates.candidate import Candidate, CandidateType, Transport, TransportAddress
from ice_tcp import (
    Agent,
    AgentState,
    ConnectError,
    ConnectionClosed,
    EventStream,
    GatheringDone,
    LocalCandidateFound,
    NoPathError,
    PathSelected,
    Role,
    StateChanged,
    Verdict,
)
from ice_tcp.net.sockets import bind_listener, bind_udp
from tests.agents import SO, TCP, UDP, agents, connected, exchange, policy, signal
from tests.loops import Runner, on_loop, run
from tests.test_asyncio_net import HOST
from tests.test_driver import turns

__all__ = ["on_loop"]

KINDS = pytest.mark.parametrize("kind", [UDP, TCP, SO, ""], ids=["udp", "tcp", "so", "all"])


@KINDS
def test_two_agents_connect_and_talk(kind: str, on_loop: Runner) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            path = one.selected_path()
            assert path is not None
            assert path.nominated
            assert path.local.transport is (Transport.TCP if kind in (TCP, SO) else Transport.UDP)
            for sender, receiver in ((one, two), (two, one)):
                for message in (b"hello", bytearray(b"bytes"), memoryview(b"view"), bytes(60_000)):
                    await sender.send(message)
                    assert await receiver.recv() == bytes(message)

    on_loop(main())


@KINDS
def test_trickle_while_the_rest_goes_on(kind: str) -> None:
    async def main() -> None:
        async with agents(kind) as (one, two):
            await asyncio.gather(one.gather(), two.gather(), exchange(one, two), one.connect(), two.connect())
            await one.send(b"hello")
            assert await two.recv() == b"hello"

    run(main())


@KINDS
def test_many_messages_arrive_in_order(kind: str, on_loop: Runner) -> None:
    rng = random.Random(3)
    messages = [rng.randbytes(rng.choice([1, 100, 1200, 1200, 1200, 9000])) for _ in range(3000)]

    async def main() -> None:
        async with connected(kind) as (one, two):
            acknowledged = asyncio.Semaphore(64)  # so that nothing is lost over UDP

            async def send() -> None:
                for message in messages:
                    await acknowledged.acquire()
                    await one.send(message)

            async def receive() -> None:
                for message in messages:
                    assert await two.recv() == message
                    acknowledged.release()

            await asyncio.gather(send(), receive())

    on_loop(main())


def test_components_have_their_own_paths() -> None:
    async def main() -> None:
        async with connected(components=2) as (one, two):
            paths = [one.selected_path(component) for component in (1, 2)]
            assert None not in paths
            assert paths[0] != paths[1]
            await one.send(b"rtcp", 2)
            await one.send(b"rtp", 1)
            assert await two.recv(1) == b"rtp"
            assert await two.recv(2) == b"rtcp"

    run(main())


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_an_empty_message_reaches_the_agent_but_not_the_application(kind: str) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            for message in (b"", b"first", b"", b"", b"second"):
                await one.send(message)
            assert await two.recv() == b"first"
            assert await two.recv() == b"second"

    run(main())


def test_a_sender_that_never_suspends_does_not_starve_the_loop() -> None:
    async def main() -> None:
        async with connected(UDP) as (one, _):
            turned = asyncio.Event()
            asyncio.get_running_loop().call_soon(turned.set)
            for _ in range(500):
                await one.send(b"x")
            assert turned.is_set()

    run(main())


@pytest.mark.parametrize(("kind", "longest"), [(UDP, 65507), (TCP, 65535)])
def test_too_long_a_message_is_misuse(kind: str, longest: int) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            await one.send(bytes(longest))
            assert len(await two.recv()) == longest
            with pytest.raises(ValueError, match=str(longest + 1)):
                await one.send(bytes(longest + 1))
            with pytest.raises(TypeError):
                await one.send(5)  # type: ignore[arg-type]

    run(main())


def test_an_unknown_component_is_misuse() -> None:
    async def main() -> None:
        async with connected(UDP) as (one, _):
            for call in (one.send(b"x", 2), one.recv(0), one.open_stream(3)):
                with pytest.raises(ValueError, match="is not from 1 to 1"):
                    await call
            with pytest.raises(ValueError, match="is not from 1 to 1"):
                one.selected_path(2)
        with pytest.raises(ValueError, match="components 0"):
            Agent(Role.CONTROLLING, components=0)

    run(main())


def test_only_one_receiver_waits_on_a_component() -> None:
    async def main() -> None:
        async with connected(UDP) as (one, two):
            waiting = asyncio.create_task(one.recv())
            await turns(1)
            with pytest.raises(RuntimeError, match="another recv"):
                await one.recv()
            waiting.cancel()
            await asyncio.wait([waiting])
            again = asyncio.create_task(one.recv())
            await turns(1)
            await two.send(b"for the second")
            assert await again == b"for the second"

    run(main())


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_a_receiver_that_is_cancelled_as_the_message_comes_loses_nothing(kind: str) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            for steps in range(8):
                waiting = asyncio.create_task(one.recv())
                await turns(1)
                await two.send(b"first")
                await two.send(b"second")
                await turns(steps)
                waiting.cancel()
                await asyncio.wait([waiting])
                received = [] if waiting.cancelled() else [waiting.result()]
                while len(received) < 2:
                    received.append(await one.recv())
                assert received == [b"first", b"second"], f"cancelled after {steps} turns"

    run(main())


def test_several_may_wait_for_the_connection() -> None:
    async def main() -> None:
        async with agents(UDP) as (one, two):
            await signal(one, two)
            paths = await asyncio.gather(one.connect(), one.connect(), one.nominated(), two.connect())
            assert len({path.path for path in paths[:3]}) == 1

    run(main())


# Not connected


def test_before_there_is_a_path() -> None:
    async def main() -> None:
        async with agents() as (one, _):
            assert one.state is AgentState.NEW
            assert one.selected_path() is None
            with pytest.raises(NoPathError):
                await one.send(b"x")
            with pytest.raises(NoPathError):
                one.send_nowait(b"x")

    run(main())


def test_a_failure_has_a_verdict_and_a_remedy() -> None:
    hurried = "timeouts: {patience: 0.6, rc: 1, rm: 1}\n"

    async def main() -> None:
        async with agents(UDP + hurried) as (one, two):
            with bind_udp(HOST, None) as silent:
                await one.gather()
                one.set_remote_parameters(two.local_parameters)
                one.add_remote_candidate(udp_candidate(silent.getsockname()[1]))
                one.end_of_candidates()
                with pytest.raises(ConnectError) as caught:
                    await one.connect()
                assert caught.value.verdict is Verdict.ALL_PAIRS_FAILED
                assert caught.value.remedy in str(caught.value)
                assert one.state is AgentState.FAILED
                for call in (one.send(b"x"), one.recv(), one.nominated()):
                    with pytest.raises(ConnectError):
                        await call

    run(main())


def udp_candidate(port: int, host: str = HOST) -> Candidate:
    return Candidate("1", 1, Transport.UDP, 2130706431, TransportAddress(host, port), CandidateType.HOST)


def test_ports_all_taken_leaves_no_candidates() -> None:
    async def main() -> None:
        with bind_udp(HOST, None) as udp, bind_listener(HOST, None) as tcp:
            port = udp.getsockname()[1], tcp.getsockname()[1]
            ranges = f"tcp_types: [passive]\nports: {{udp: [{port[0]}, {port[0]}], tcp: [{port[1]}, {port[1]}]}}\n"
            async with agents(ranges) as (one, _):
                await one.gather()
                assert [candidate async for candidate in one.local_candidates()] == []

    run(main())


def test_a_thousand_candidates_and_strange_ones_do_no_harm() -> None:
    async def main() -> None:
        async with agents(UDP) as (one, two):
            await asyncio.gather(one.gather(), two.gather())
            one.set_remote_parameters(two.local_parameters)
            (own,) = [candidate async for candidate in one.local_candidates()]
            for candidate in (own, own, udp_candidate(9, "peer.local"), udp_candidate(9, "fe80::1")):
                one.add_remote_candidate(candidate)
            await exchange(one, two)
            for number in range(1000):
                one.add_remote_candidate(udp_candidate(10_000 + number, "127.9.9.9"))
            await asyncio.gather(one.connect(), two.connect())
            await one.send(b"hello")
            assert await two.recv() == b"hello"

    run(main())


def test_our_own_address_as_remote_is_no_path() -> None:
    async def main() -> None:
        async with agents(TCP + "timeouts: {patience: 0.6}\n") as (one, two):
            await one.gather()
            one.set_remote_parameters(two.local_parameters)
            async for candidate in one.local_candidates():
                one.add_remote_candidate(candidate)
            one.end_of_candidates()
            with pytest.raises(ConnectError):
                await one.connect()

    run(main())


# Faults


@KINDS
def test_garbage_does_no_harm(kind: str) -> None:
    rng = random.Random(11)

    async def main() -> None:
        async with connected(kind) as (one, two):
            path = one.selected_path()
            assert path is not None
            for candidate in [candidate async for candidate in one.local_candidates()]:
                if candidate.transport is Transport.UDP:
                    with bind_udp(HOST, None) as stranger:
                        for _ in range(100):
                            stranger.sendto(garbage(rng), (HOST, candidate.address.port))
                elif candidate.address.port != 9:
                    for _ in range(5):
                        with socket.create_connection((HOST, candidate.address.port)) as stranger:
                            stranger.sendall(garbage(rng))
            await turns(20)
            await one.send(b"still")
            assert await two.recv() == b"still"
            await two.send(b"here")
            assert await one.recv() == b"here"

    run(main())


def garbage(rng: random.Random) -> bytes:
    """Noise, or a STUN header with something wrong behind it."""
    noise = rng.randbytes(rng.randrange(200))
    header = b"\x00\x01" + len(noise).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + rng.randbytes(12)
    packet = rng.choice([noise, header + noise, header[: rng.randrange(20)], header])
    return len(packet).to_bytes(2, "big") + packet if rng.random() < 0.5 else packet


def test_connections_that_flood_or_send_nothing_are_closed() -> None:
    hasty = "tcp_types: [passive]\ntimeouts: {idle: 0.1}\nlimits: {accepted_streams: 4}\n"

    async def main() -> None:
        async with agents(TCP + hasty) as (one, _):
            await one.gather()
            candidates = [candidate async for candidate in one.local_candidates()]
            place = (HOST, candidates[0].address.port)
            loop = asyncio.get_running_loop()
            with closing(socket.socket()) as silent:
                silent.setblocking(False)
                await loop.sock_connect(silent, place)
                assert await loop.sock_recv(silent, 1) == b""
            many = [socket.create_connection(place) for _ in range(20)]
            for sock in many:
                sock.setblocking(False)
                assert await loop.sock_recv(sock, 1) == b""
                sock.close()

    run(main())


def test_send_nowait_drops_when_too_much_waits() -> None:
    async def main() -> None:
        async with connected(TCP + "limits:\n  send_bytes: 65536\n  receive_bytes: 65536\n") as (one, two):
            sent = 0
            while one.send_nowait(sent.to_bytes(4, "big") + bytes(10_000)):
                sent += 1
            dropped = sent
            for number in range(dropped):
                assert int.from_bytes((await two.recv())[:4], "big") == number
            await one.send(b"last")
            assert await two.recv() == b"last"

    run(main())


def test_a_slow_reader_stops_the_sender() -> None:
    async def main() -> None:
        async with connected(TCP + "limits:\n  send_bytes: 65536\n  receive_bytes: 65536\n") as (one, two):

            async def send() -> None:
                for number in range(2000):
                    await one.send(number.to_bytes(4, "big") + bytes(20_000))

            sending = asyncio.create_task(send())
            await turns(500)
            assert not sending.done()
            for number in range(2000):
                assert int.from_bytes((await two.recv())[:4], "big") == number
            await sending

    run(main())


def test_a_peer_that_vanishes_is_noticed() -> None:
    impatient = "consent: {interval: 0.1, timeout: 0.4}\n"

    async def main() -> None:
        async with connected(UDP + impatient) as (one, two):
            events = one.events()
            await two.close()
            async for event in events:
                if isinstance(event, StateChanged) and event.state is AgentState.FAILED:
                    assert event.verdict is Verdict.CONSENT_EXPIRED
                    break
            with pytest.raises(ConnectError):
                await one.recv()

    run(main())


# For other interfaces


def test_chosen_credentials_and_a_late_role() -> None:
    async def main() -> None:
        credentials = ("user", "a/password/of/+22+characters")
        one = Agent(Role.CONTROLLED, policy=policy(UDP), credentials=credentials)
        async with one, Agent(Role.CONTROLLED, policy=policy(UDP)) as two:
            assert (one.local_parameters.ufrag, one.local_parameters.pwd) == credentials
            one.set_role(Role.CONTROLLING)
            await signal(one, two)
            await asyncio.gather(one.connect(), two.connect())
            assert (one.role, two.role) == (Role.CONTROLLING, Role.CONTROLLED)

    run(main())


def test_candidates_of_the_peer_are_listed_with_those_that_were_learned() -> None:
    async def main() -> None:
        async with agents(TCP + "tcp_types: [active, passive]\n") as (one, two):
            await signal(one, two)
            told = one.remote_candidates
            assert {candidate.type for candidate in told} == {CandidateType.HOST}
            await asyncio.gather(one.connect(), two.connect())
            assert CandidateType.PRFLX in {
                candidate.type for agent in (one, two) for candidate in agent.remote_candidates
            }

    run(main())


def test_a_peer_without_ice_gets_data_and_nothing_else() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Agent(Role.CONTROLLING, policy=policy(UDP)) as agent:
            await agent.gather()
            (local,) = [candidate async for candidate in agent.local_candidates()]
            with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plain:
                plain.bind((HOST, 0))
                plain.setblocking(False)
                port = plain.getsockname()[1]
                agent.select(local, replace(local, address=TransportAddress(HOST, port)))
                assert agent.state is AgentState.COMPLETED
                await agent.send(b"rtp")
                data, source = await loop.sock_recvfrom(plain, 2048)
                assert (data, source) == (b"rtp", (HOST, local.address.port))
                await loop.sock_sendto(plain, b"back", source)
                assert await agent.recv() == b"back"
                with pytest.raises(BlockingIOError):
                    plain.recv(2048)

    run(main())


# Statistics and events


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_stats_count_data_and_checks_apart(kind: str) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            for _ in range(3):
                await one.send(bytes(100))
                await two.recv()
            await two.send(b"back")
            await one.recv()
            (pair,) = [pair for pair in one.stats().pairs if pair.nominated]
            assert (pair.packets_sent, pair.bytes_sent) == (3, 300)
            assert (pair.packets_received, pair.bytes_received) == (1, 4)
            assert pair.requests_sent > 0
            assert pair.responses_received > 0
            assert pair.current_round_trip_time is not None
            assert 0 < pair.current_round_trip_time <= pair.total_round_trip_time
            assert one.stats().packets_discarded == 0

    run(main())


def test_events_come_in_order_and_end_with_the_agent() -> None:
    async def main() -> None:
        async with agents(UDP) as (one, two):
            events = one.events()
            await signal(one, two)
            await asyncio.gather(one.connect(), two.connect(), one.nominated())
            await one.close()
            seen = [event async for event in events]
            kinds = [type(event) for event in seen]
            assert kinds.index(LocalCandidateFound) < kinds.index(GatheringDone) < kinds.index(PathSelected)
            states = [event.state for event in seen if isinstance(event, StateChanged)]
            assert states[0] is AgentState.CHECKING
            assert states[-2:] == [AgentState.COMPLETED, AgentState.CLOSED]
            assert [event async for event in one.events()] == []

    run(main())


@pytest.mark.parametrize("kind", [UDP, TCP])
def test_restart_keeps_data_flowing(kind: str) -> None:
    async def main() -> None:
        async with connected(kind) as (one, two):
            before = one.local_parameters
            await one.restart()
            assert one.local_parameters != before
            await one.send(b"on the old path")
            assert await two.recv() == b"on the old path"
            events = one.events()
            two.set_remote_parameters(one.local_parameters)
            await exchange(one, two)
            await one.connect()
            await selected(events, 1)
            await one.send(b"on the new one")
            assert await two.recv() == b"on the new one"

    run(main())


async def selected(events: EventStream, generation: int) -> None:
    """Wait until a path of this generation is nominated."""
    async for event in events:
        if isinstance(event, PathSelected) and event.selected.generation == generation and event.selected.nominated:
            return


# The end


def test_after_close() -> None:
    async def main() -> None:
        async with connected(UDP) as (one, two):
            receiving = asyncio.create_task(one.recv())
            await turns(1)
            await one.close()
            await one.close()
            assert one.state is AgentState.CLOSED
            with pytest.raises(ConnectionClosed):
                await receiving
            for call in (one.send(b"x"), one.recv(), one.connect(), one.nominated(), one.gather(), one.restart()):
                with pytest.raises(ConnectionClosed):
                    await call
            with pytest.raises(ConnectionClosed):
                one.end_of_candidates()
            assert [candidate async for candidate in two.local_candidates()]

    run(main())


def test_what_came_before_close_can_still_be_taken() -> None:
    async def main() -> None:
        async with connected(TCP) as (one, two):
            for number in range(10):
                await one.send(b"%d" % number)
            await one.close()
            assert [await two.recv() for _ in range(10)] == [b"%d" % number for number in range(10)]

    run(main())


@KINDS
def test_cancelled_anywhere_nothing_is_left_behind(kind: str) -> None:
    async def session() -> None:
        async with connected(kind) as (one, two):
            await asyncio.gather(one.send(b"x"), two.recv(), one.recv())

    async def main() -> None:
        for steps in [*range(12), 15, 20, 30, 50, 80]:
            task = asyncio.create_task(session())
            await turns(steps)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not open_sockets()

    before = open_sockets()
    run(main())
    assert open_sockets() <= before


def open_sockets() -> set[int]:
    """Those of this process that speak IP."""
    gc.collect()
    return {
        id(each)
        for each in gc.get_objects()
        if isinstance(each, socket.socket) and each.fileno() >= 0 and each.family is not socket.AF_UNIX
    }


def test_outside_of_a_loop_there_is_no_agent() -> None:
    with pytest.raises(RuntimeError):
        Agent(Role.CONTROLLING, policy=policy())
