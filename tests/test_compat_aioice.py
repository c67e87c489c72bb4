"""aioice's interface on our agent: the same script gives the same with both, and each connects to the other."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing

import aioice
import pytest

from ice_tcp.compat.aioice import Candidate, Connection, ConnectionClosed, TransportPolicy
from tests.connections import (
    HOST,
    MAKES,
    Make,
    attempt,
    connect,
    loopback,
    open_connections,
    ours,
    stock,
    talk,
    tell,
    udp_port,
)
from tests.loops import Runner, on_loop, run
from tests.test_driver import turns

__all__ = ["loopback", "on_loop"]

EVERY_MAKE = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
PAIRS = pytest.mark.parametrize(
    ("make", "other"),
    [(ours, ours), (ours, stock), (stock, ours)],
    ids=["ours-ours", "ours-stock", "stock-ours"],
)
"""The first one controls."""

INTERNAL = {
    *("build_request", "check_complete", "check_incoming", "check_periodic", "check_start", "check_start_task"),
    *("check_state", "data_received", "get_component_candidates", "protocol_lost", "query_consent"),
    *("request_received", "respond_error", "sort_check_list", "switch_role"),
}
"""Methods of aioice's that only its own parts call; its documentation has none of them."""

PASSWORD = "a+password/of+characters"
CANDIDATE = "1 1 udp 2130706431 192.0.2.9 5000 typ host"


# The same names


def test_what_aioice_exports_is_here() -> None:
    assert Candidate is aioice.Candidate
    assert ConnectionClosed is aioice.ConnectionClosed
    assert TransportPolicy is aioice.TransportPolicy


def test_the_constructor_takes_aioices_arguments_in_its_order() -> None:
    theirs = list(inspect.signature(aioice.Connection).parameters.values())
    here = list(inspect.signature(Connection).parameters.values())
    assert [(each.name, each.default, each.kind) for each in here[:-1]] == [
        (each.name, each.default, each.kind) for each in theirs
    ]
    assert here[-1].name == "policy"


def test_every_public_attribute_of_aioices_is_here() -> None:
    public = {name for name in dir(aioice.Connection(True)) if not name.startswith("_")} - INTERNAL
    assert public - set(dir(Connection(True))) == set()
    for name, method in inspect.getmembers(aioice.Connection, inspect.isfunction):
        if name in public:
            here = getattr(Connection, name)
            assert inspect.signature(here).parameters.keys() == inspect.signature(method).parameters.keys()
            assert inspect.iscoroutinefunction(here) is inspect.iscoroutinefunction(method)


# The same script


Script = Callable[[Make], Awaitable[list[object]]]


async def constructing(make: Make) -> list[object]:
    said: list[object] = []
    for how in (
        {"local_username": "abc"},
        {"local_username": "ab:d"},
        {"local_username": "a" * 257},
        {"local_password": "short"},
        {"local_password": "a" * 21 + "!"},
    ):
        try:
            make(True, **how)
        except ValueError as error:
            said.append(str(error))
    connection = make(True, local_username="user", local_password=PASSWORD)
    said += [connection.local_username, connection.local_password, connection.ice_controlling]
    said += [connection.remote_is_lite, connection.remote_username, connection.remote_password]
    said += [connection.local_candidates, connection.remote_candidates]
    said += [connection.stun_server, connection.turn_server, connection.turn_username, connection.turn_password]
    said += [connection.turn_ssl, connection.turn_transport]
    connection.ice_controlling = False
    said.append(connection.ice_controlling)
    return said


async def misusing(make: Make) -> list[object]:
    connection = make(True)
    said = [
        await attempt(connection.connect()),
        await attempt(connection.recv()),
        await attempt(connection.recvfrom()),
        await attempt(connection.send(b"x")),
        await attempt(connection.sendto(b"x", 1)),
        connection.get_default_candidate(1),
    ]
    await connection.gather_candidates()
    await connection.gather_candidates()
    said += [await attempt(connection.connect()), connection.get_default_candidate(2)]
    connection.remote_username = "user"
    said.append(await attempt(connection.connect()))
    try:
        connection.set_selected_pair(1, "no", "such")
    except AssertionError:
        said.append("AssertionError")
    await connection.close()
    return said


async def remote_candidates(make: Make) -> list[object]:
    connection = make(True)
    first = aioice.Candidate.from_sdp(CANDIDATE)
    await connection.add_remote_candidate(first)
    first.host = "192.0.2.77"  # a copy was taken
    odd = (
        CANDIDATE,  # once more
        "no-ice-chars 1 UDP 5 192.0.2.10 5001 typ host",
        "2 1 udp 0 192.0.2.11 5002 typ relay raddr 10.0.0.1 rport 9",
        "3 1 udp 5 example.com 5003 typ host",
        "4 1 udp 5 192.0.2.12 5004 typ prflx",
        "5 1 udp 5 192.0.2.13 5005 typ unknown",
        "6 1 udp 5 2001:DB8::9 5006 typ srflx raddr :: rport 9 generation 3",
    )
    for line in odd:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
    said: list[object] = [repr(each) for each in connection.remote_candidates]
    said.append(connection.remote_candidates is connection.remote_candidates)
    said.append(await attempt(connection.add_remote_candidate(None)))
    said.append(await attempt(connection.add_remote_candidate(None)))
    said.append(await attempt(connection.add_remote_candidate(aioice.Candidate.from_sdp(CANDIDATE))))
    await connection.close()
    return said


async def living_and_closing(make: Make) -> list[object]:
    one, two = make(True), make(False)
    await connect(one, two)
    said: list[object] = []
    await one.send(b"first")
    said.append(await two.recv())
    await two.sendto(b"second", 1)
    said.append(await one.recvfrom())
    said.append(await attempt(one.sendto(b"x", 2)))
    receiving = asyncio.ensure_future(attempt(one.recv()))
    event = asyncio.ensure_future(one.get_event())
    await turns(5)
    said.append(await attempt(one.get_event()))
    await one.close()
    said += [await receiving, type(await event), await one.get_event()]
    said += [await attempt(one.recv()), await attempt(one.send(b"x")), one.local_candidates]
    said.append(await attempt(one.add_remote_candidate(None)))
    await one.close()
    await two.close()
    return said


async def closing_while_connecting(make: Make) -> list[object]:
    connection = make(True)
    await connection.gather_candidates()
    connection.remote_username, connection.remote_password = "user", PASSWORD
    await connection.add_remote_candidate(aioice.Candidate.from_sdp(f"1 1 udp 5 {HOST} 9 typ host"))
    connecting = asyncio.ensure_future(attempt(connection.connect()))
    await turns(5)
    await connection.close()
    said = [await connecting]
    await connection.add_remote_candidate(aioice.Candidate.from_sdp(CANDIDATE))
    return said


async def only_a_relay_and_no_server(make: Make) -> list[object]:
    connection = make(True, transport_policy=TransportPolicy.RELAY, stun_server=(HOST, 9))
    await connection.gather_candidates()
    connection.remote_username, connection.remote_password = "user", PASSWORD
    connecting = asyncio.ensure_future(attempt(connection.connect()))
    await turns(20)
    said: list[object] = [connection.local_candidates, connecting.done()]
    await connection.add_remote_candidate(None)
    said.append(await connecting)
    await connection.close()
    return said


@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize(
    "script",
    [
        constructing,
        misusing,
        remote_candidates,
        living_and_closing,
        closing_while_connecting,
        only_a_relay_and_no_server,
    ],
)
def test_a_script_says_the_same_on_both(script: Script) -> None:
    async def main() -> None:
        assert await script(ours) == await script(stock)

    run(main())


# Ours to ours, ours to aioice


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_connections_talk(make: Make, other: Make, on_loop: Runner) -> None:
    async def main() -> None:
        async with open_connections(make(True), other(False)) as (one, two):
            await connect(one, two)
            await talk(one, two)

    on_loop(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_a_thousand_messages_arrive_both_ways(make: Make, other: Make) -> None:
    rng = random.Random(7)
    messages = [rng.randbytes(rng.choice([1, 19, 20, 100, 1200])) for _ in range(1000)]

    async def main() -> None:
        async with open_connections(make(True), other(False)) as (one, two):
            await connect(one, two)
            for sender, receiver in ((one, two), (two, one)):
                for message in messages:
                    await sender.send(message)
                    assert await receiver.recv() == message

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_components_have_their_own_paths(make: Make, other: Make) -> None:
    async def main() -> None:
        async with open_connections(make(True, components=2), other(False, components=2)) as (one, two):
            await connect(one, two)
            assert {each.component for each in one.local_candidates} == {1, 2}
            await talk(one, two, 2)
            await talk(one, two, 1)
            await one.sendto(b"rtcp", 2)
            await one.sendto(b"rtp", 1)
            assert {await two.recvfrom(), await two.recvfrom()} == {(b"rtp", 1), (b"rtcp", 2)}

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_components_that_the_peer_lacks_are_dropped(make: Make, other: Make) -> None:
    async def main() -> None:
        async with open_connections(make(True, components=2), other(False, components=1)) as (one, two):
            await connect(one, two)
            await talk(one, two)
            assert await attempt(one.sendto(b"x", 2)) == ("ConnectionError", "Cannot send data, not connected")

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("controlling", [True, False])
def test_a_role_conflict_is_resolved(make: Make, other: Make, controlling: bool) -> None:
    async def main() -> None:
        async with open_connections(make(controlling), other(controlling)) as (one, two):
            await connect(one, two)
            await talk(one, two)
            assert one.ice_controlling is not two.ice_controlling

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_the_role_may_be_told_after_gathering(make: Make, other: Make) -> None:
    async def main() -> None:
        async with open_connections(make(False), other(False)) as (one, two):
            await one.gather_candidates()
            one.ice_controlling = True
            await connect(one, two)
            await talk(one, two)
            assert (one.ice_controlling, two.ice_controlling) == (True, False)

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
@pytest.mark.parametrize("late", ["candidates", "end", "gathering"])
def test_candidates_come_at_any_time(make: Make, other: Make, late: str) -> None:
    async def main() -> None:
        async with open_connections(make(True), other(False)) as (one, two):
            await two.gather_candidates()
            if late == "gathering":
                await tell(two, one)
            await one.gather_candidates()
            if late != "gathering":
                await tell(two, one, end=False)
            await tell(one, two, end=False)
            connecting = asyncio.gather(one.connect(), two.connect())
            await turns(3)
            if late == "candidates":
                stray = aioice.Candidate.from_sdp(CANDIDATE)
                await asyncio.gather(one.add_remote_candidate(stray), two.add_remote_candidate(stray))
            await connecting
            await talk(one, two)

    run(main())


@PAIRS
@pytest.mark.usefixtures("loopback")
def test_a_peer_that_tells_no_candidates_is_learned(make: Make, other: Make) -> None:
    async def main() -> None:
        async with open_connections(make(True), other(False)) as (one, two):
            await asyncio.gather(one.gather_candidates(), two.gather_candidates())
            await tell(one, two)
            one.remote_username, one.remote_password = two.local_username, two.local_password
            await asyncio.gather(one.connect(), two.connect())
            await talk(one, two)
            learned = [each for each in one.remote_candidates if each.type == "prflx"]
            assert [(each.host, each.port) for each in learned] == [(HOST, udp_port(two))]

    run(main())


@EVERY_MAKE
@pytest.mark.usefixtures("loopback")
def test_a_pair_without_checks_reaches_a_plain_socket(make: Make) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_connections(make(True)) as (one,):
            await one.gather_candidates()
            with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as plain:
                plain.bind((HOST, 0))
                plain.setblocking(False)
                port = plain.getsockname()[1]
                await one.add_remote_candidate(aioice.Candidate.from_sdp(f"7 1 udp 5 {HOST} {port} typ host"))
                default = one.get_default_candidate(1)
                assert default is not None
                one.set_selected_pair(1, default.foundation, "7")
                await one.send(b"rtp")
                data, source = await loop.sock_recvfrom(plain, 2048)
                assert (data, source) == (b"rtp", (HOST, default.port))
                await loop.sock_sendto(plain, b"back", source)
                assert await one.recvfrom() == (b"back", 1)

    run(main())
