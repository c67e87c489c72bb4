"""What servers and others may send instead of what they should: nothing raises, nothing is believed, all is told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candidates.candidate import CandidateType
from ice_tcp import stun
from ice_tcp.core.commands import Deliver, Failure, LegId, QueryId
from ice_tcp.core.events import GatheringDone, Purpose, RelayLost
from ice_tcp.core.exchanges import ServerDropReason, ServerMessageDropped
from ice_tcp.core.outcomes import ServerVerdict
from ice_tcp.core.trace import MessageDropped
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import MessageClass, Method
from tests.core.net import AWAY, address, policy, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import HOST, PORT, STUN, Client, Scripted, World, served, turn

IPV4: dict[str, Any] = {"address_families": ["ipv4"]}
RELAY_ONLY: dict[str, Any] = {"candidate_types": ["relay"], **IPV4}
UDP_LEG, TCP_LEG = (turn(f"turn:{HOST}?transport={transport}") for transport in ("udp", "tcp"))
LIE = address("198.51.100.66", 666)


def binding(request: stun.Message, *, id_: bytes | None = None, mapped: tuple[str, int] | None = None) -> bytes:
    id_ = id_ or request.transaction_id
    host, port = mapped or (LIE.host, LIE.port)
    return stun.encode(MessageClass.SUCCESS, Method.BINDING, id_, [stun.xor_mapped_address(host, port, id_)])


def asks(answer: Callable[[stun.Message], bytes | list[bytes] | None], *, tcp: bool = False) -> tuple[World, Client]:
    """A client that has asked a server which answers so, until gathering has ended."""
    world = World()
    world.scripted().answer = answer
    keys: dict[str, Any] = {"transports": ["tcp"], "tcp_types": ["passive"]} if tcp else {}
    client = world.client(served(STUN, **keys))
    client.gather()
    world.run(60)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    return world, client


def dropped(client: Client) -> list[ServerDropReason]:
    return [record.reason for record in client.traced(ServerMessageDropped)]


BAD_BINDINGS: dict[str, Callable[[stun.Message], bytes]] = {
    "wrong id": lambda request: binding(request, id_=bytes(12)),
    "truncated": lambda request: binding(request)[:-3],
    "header only, with a length": lambda request: binding(request)[:20],
    "oversized": lambda request: binding(request) + bytes(60_000),
    "no cookie": lambda request: binding(request)[:4] + bytes(4) + binding(request)[8:],
    "wrong method": lambda request: stun.encode(MessageClass.SUCCESS, Method.REFRESH, request.transaction_id),
    "a request": lambda request: stun.encode(MessageClass.REQUEST, Method.BINDING, request.transaction_id),
    "channel data": lambda _: b"\x40\x00\x00\x04abcd",
    "nothing": lambda _: b"",
    "one byte": lambda _: b"\x01",
    "text": lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize(
    ("what", "transport"),
    [
        *((what, "udp") for what in BAD_BINDINGS),
        # On a stream it would be a good message, and what comes behind it.
        *((what, "tcp") for what in BAD_BINDINGS if what != "oversized"),
    ],
)
def test_no_bad_answer_gives_a_candidate(what: str, transport: str) -> None:
    _, client = asks(BAD_BINDINGS[what], tcp=transport == "tcp")
    assert {each.type for each in client.told()} == {CandidateType.HOST}
    (failure,) = client.failures(Purpose.REFLEXIVE)
    assert failure.cause in (Verdict.TIMED_OUT, ServerVerdict.NO_RESPONSE, ServerVerdict.NOT_STUN)


@pytest.mark.parametrize(
    "attributes",
    [[], [(0x0020, b"\0\x09" + bytes(6))], [(0x0020, bytes(3))], [(0x0020, b"\0\x01\x21\x12" + bytes(4))]],
    ids=["none", "family 9", "too short", "port 0"],
)
def test_a_response_without_a_usable_address_is_malformed(attributes: list[stun.Attribute]) -> None:
    _, client = asks(
        lambda request: stun.encode(MessageClass.SUCCESS, Method.BINDING, request.transaction_id, attributes)
    )
    (failure,) = client.failures(Purpose.REFLEXIVE)
    assert failure.cause in (ServerVerdict.MALFORMED, Verdict.TIMED_OUT)
    assert {each.type for each in client.told()} == {CandidateType.HOST}


def test_an_error_response_is_told() -> None:
    _, client = asks(
        lambda request: stun.encode(
            MessageClass.ERROR, Method.BINDING, request.transaction_id, [stun.error_code(500, "no luck today")]
        )
    )
    (failure,) = client.failures()
    assert (failure.cause, failure.text) == (ServerVerdict.SERVER_ERROR, "500 no luck today")


def test_two_answers_are_one_candidate_and_the_first_counts() -> None:
    other = ("198.51.100.67", 667)
    _, client = asks(lambda request: [binding(request), binding(request, mapped=other)])
    reflexive = [each.address for each in client.told() if each.type is CandidateType.SRFLX]
    assert reflexive == [LIE]
    assert ServerDropReason.UNKNOWN_TRANSACTION in dropped(client)


@pytest.mark.parametrize("source", [address(HOST, PORT + 1), address("198.51.100.9", PORT), address(AWAY, 5000)])
def test_an_answer_from_a_wrong_address_is_not_believed(source: object) -> None:
    world = World()
    server = world.scripted()
    client = world.client(served(STUN))
    client.gather()
    world.run(0.05)
    request = stun.decode(server.heard[0])
    (local,) = client.sockets.values()
    server.says(source, local, binding(request))  # type: ignore[arg-type]
    world.run(0.1)
    assert {each.type for each in client.told()} == {CandidateType.HOST}
    assert len(client.traced(MessageDropped)) == 1
    server.says(address(HOST, PORT), local, binding(request))  # and the right one still counts
    world.run(0.1)
    assert {each.type for each in client.told()} == {CandidateType.HOST, CandidateType.SRFLX}


def test_a_peer_at_a_servers_address_is_still_heard() -> None:
    """Its requests are checks, whatever else comes from there."""
    world = World()
    world.scripted()
    client = world.client(served(STUN))
    client.gather()
    world.run(0.05)
    peer = Peer(client)
    peer.introduce(udp_candidate(PORT, host=HOST))
    assert peer.asks(peer.udp_path(PORT, HOST)) is not None


def test_a_mapped_address_that_is_nobodys_is_a_candidate_at_most() -> None:
    """What a server says is not checked against the world: the peer's check is. It must not raise either."""
    for host in ("0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1"):  # noqa: S104
        _, client = asks(lambda request, host=host: binding(request, mapped=(host, 1)))  # type: ignore[misc]
        assert client.all_events(GatheringDone) == [GatheringDone(0)]


# -- allocations


def allocated(*attributes: stun.Attribute) -> Callable[[stun.Message], bytes]:
    def answer(request: stun.Message) -> bytes:
        id_ = request.transaction_id
        found = attributes or (stun.xor_relayed_address("198.51.100.9", 50_000, id_), stun.lifetime(600))
        return stun.encode(MessageClass.SUCCESS, request.method, id_, list(found))

    return answer


def allocates(
    answer: Callable[[stun.Message], bytes | list[bytes] | None], entry: dict[str, object] = UDP_LEG, seconds: float = 1
) -> tuple[World, Scripted, Client]:
    world = World()
    server = world.scripted()
    server.answer = answer
    client = world.client(served(entry, **RELAY_ONLY))
    client.gather()
    world.run(seconds)
    return world, server, client


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ([stun.lifetime(600)], ServerVerdict.UNEXPECTED_ADDRESS),
        ([(0x0016, bytes(3)), stun.lifetime(600)], ServerVerdict.MALFORMED),
        ([(0x0016, b"\0\x02" + bytes(18)), stun.lifetime(600)], ServerVerdict.UNEXPECTED_ADDRESS),
        ([(0x0016, b"\0\x01\x00\x01\x00\x00\x00\x01"), stun.lifetime(0)], ServerVerdict.EXPIRED),
        ([(0x0016, b"\0\x01\x00\x01\x00\x00\x00\x01"), (0x000D, bytes(3))], ServerVerdict.MALFORMED),
    ],
)
def test_allocations_that_cannot_be_used_are_told_and_deleted(
    attributes: list[stun.Attribute], cause: ServerVerdict
) -> None:
    _, server, client = allocates(allocated(*attributes))
    assert client.told() == [] and client.legs == {}
    (failure,) = client.failures()
    assert failure.cause is cause
    assert [stun.decode(each).method for each in server.heard][-1] == Method.REFRESH


def test_a_server_that_never_answers_is_told_at_the_deadline() -> None:
    world, _, client = allocates(lambda _: None, seconds=policy().timeouts.relay - 0.1)
    assert client.all_events(GatheringDone) == []
    world.run(0.2)
    assert [failure.cause for failure in client.failures()] == [Verdict.TIMED_OUT]
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_forged_answer_is_not_believed() -> None:
    """The challenge was answered: from then on everything has integrity (RFC 8489 s9.2.5)."""

    def answer(request: stun.Message) -> bytes:
        id_ = request.transaction_id
        if not request.has_integrity:
            attributes = [stun.error_code(401), stun.realm("example.org"), stun.nonce(b"n0nce")]
            return stun.encode(MessageClass.ERROR, request.method, id_, attributes)
        attributes = [stun.xor_relayed_address(LIE.host, LIE.port, id_), stun.lifetime(600)]
        forged = stun.IntegrityKey.long_term("alice", "example.org", "something else")
        return stun.encode(MessageClass.SUCCESS, request.method, id_, attributes, key=forged)

    _, _, client = allocates(answer, seconds=4)
    assert client.told() == []
    assert ServerDropReason.BAD_INTEGRITY in dropped(client)
    _, _, over_tcp = allocates(answer, TCP_LEG)
    assert over_tcp.told() == []
    assert [failure.cause for failure in over_tcp.failures()] == [ServerVerdict.BAD_INTEGRITY]


@pytest.mark.parametrize("entry", [UDP_LEG, TCP_LEG], ids=["udp", "tcp"])
def test_channel_data_before_the_allocation_is_nothing(entry: dict[str, object]) -> None:
    _, _, client = allocates(lambda request: [b"\x40\x00\x00\x04abcd", allocated()(request)], entry)
    if entry is UDP_LEG:
        assert len(client.told()) == 1
        assert ServerDropReason.NO_ALLOCATION in dropped(client)
    else:  # no server sends data first: whatever this is, it speaks something else
        assert [failure.cause for failure in client.failures()] == [ServerVerdict.NOT_STUN]
    assert client.all_commands(Deliver) == []


def living(entry: dict[str, object] = UDP_LEG) -> tuple[World, Scripted, Client, LegId]:
    """A relay that lives, with a permission for one peer."""
    world, server, client = allocates(allocated(), entry)
    Peer(client).introduce(udp_candidate())
    world.run(0.1)
    (leg,) = client.legs
    return world, server, client, leg


def data_of(host: str, data: bytes = b"data") -> bytes:
    id_ = bytes(12)
    attributes = [stun.xor_peer_address(host, 5000, id_), stun.data(data)]
    return stun.encode(MessageClass.INDICATION, Method.DATA, id_, attributes)


def test_data_of_a_peer_without_permission_is_dropped() -> None:
    _, _, client, leg = living()
    client.leg_receives(leg, data_of("198.51.100.200"))
    assert client.all_commands(Deliver) == []
    assert dropped(client)[-1] is ServerDropReason.NO_PERMISSION
    client.leg_receives(leg, data_of(AWAY))
    assert len(client.all_commands(Deliver)) == 1


@pytest.mark.parametrize("number", [b"\x40\x00", b"\x40\x07", b"\x4f\xff"])
def test_a_channel_that_was_never_bound_is_dropped(number: bytes) -> None:
    _, _, client, leg = living()
    client.leg_receives(leg, number + b"\x00\x04data")
    assert client.all_commands(Deliver) == []
    assert dropped(client)[-1] is ServerDropReason.UNKNOWN_CHANNEL


BAD_MESSAGES: dict[str, bytes] = {
    "truncated indication": data_of(AWAY)[:-5],
    "truncated channel data": b"\x40\x00\x00\x10data",
    "no peer": stun.encode(MessageClass.INDICATION, Method.DATA, bytes(12), [stun.data(b"x")]),
    "no data": stun.encode(
        MessageClass.INDICATION, Method.DATA, bytes(12), [stun.xor_peer_address(AWAY, 1, bytes(12))]
    ),
    "unknown method": stun.encode(MessageClass.INDICATION, 0x0BB, bytes(12)),
    "unknown required": stun.encode(MessageClass.INDICATION, Method.DATA, bytes(12), [(0x7FFF, b"")]),
    "a request": stun.encode(MessageClass.REQUEST, Method.DATA, bytes(12)),
    "an unasked answer": stun.encode(MessageClass.SUCCESS, Method.REFRESH, bytes(12), [stun.lifetime(0)]),
    "an attempt on a UDP allocation": stun.encode(
        MessageClass.INDICATION,
        Method.CONNECTION_ATTEMPT,
        bytes(12),
        [stun.xor_peer_address(AWAY, 1, bytes(12)), stun.connection_id(1)],
    ),
    "nothing": b"",
}


@pytest.mark.parametrize("what", BAD_MESSAGES)
def test_bad_messages_to_a_living_relay_change_nothing(what: str) -> None:
    world, _, client, leg = living()
    before = len(dropped(client))
    client.leg_receives(leg, BAD_MESSAGES[what])
    world.run(1)
    assert len(dropped(client)) > before
    assert client.all_events(RelayLost) == [] and client.all_commands(Deliver) == []
    assert leg in client.legs


def test_a_server_that_closes_in_the_middle_is_told() -> None:
    """The shell has the half of a message; the core hears of the end."""
    _, _, client = allocates(lambda _: None, TCP_LEG)
    (leg,) = client.legs
    client.loses_leg(leg, Failure.CLOSED, "in the middle of a message")
    (failure,) = client.failures()
    assert (failure.cause, failure.text) == (Verdict.CLOSED, "in the middle of a message")


def test_a_refresh_that_ends_the_allocation_is_a_loss() -> None:
    """A lifetime of 0, or an error that nobody else may say."""
    world, server, client, _ = living()

    def answer(request: stun.Message) -> bytes:
        return stun.encode(MessageClass.SUCCESS, request.method, request.transaction_id, [stun.lifetime(0)])

    server.answer = answer
    world.run(600)
    assert [lost.failure.cause for lost in client.all_events(RelayLost)] == [ServerVerdict.EXPIRED]


# -- inputs of any kind


def test_inputs_for_dead_and_unknown_numbers_are_ignored() -> None:
    world, _, client, leg = living()
    client.close()
    world.run(3)
    agent, events = client.agent, len(client.events)
    for number in (leg, LegId(999_999), LegId(1)):
        agent.leg_opened(number, address(AWAY, 1), world.now)
        agent.leg_received(number, data_of(AWAY), world.now)
        agent.relayed(number, address(AWAY, 5000), b"\x00" * 20, world.now)
        agent.leg_lost(number, Failure.RESET, "", world.now)
        agent.resolved(QueryId(number), [], world.now)
        agent.resolve_failed(QueryId(number), "", world.now)
    assert len(client.events) == events
    assert agent.commands() == [] and agent.events() == []


@settings(max_examples=60, deadline=None)
@given(data=st.lists(st.binary(max_size=80), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_any_bytes_on_any_leg_raise_nothing(data: list[bytes], seed: int) -> None:
    """Also mutations of what is right, at any time, in any state."""
    rng = Random(seed)
    world = World()
    world.server()
    client = world.client(served(turn(), transports=["udp", "tcp"], **IPV4), seed=seed)
    client.gather()
    world.run(rng.uniform(0, 0.12))
    heard = [sent.data for sent in client.leg_sent] + [data_of(AWAY), data_of(AWAY, b"\0\1" + bytes(18))]
    for chunk in [*data, *(mutated(rng, each) for each in rng.sample(heard, min(3, len(heard))))]:
        for leg in list(client.legs):
            client.do(lambda now, leg=leg, chunk=chunk: client.agent.leg_received(leg, chunk, now))  # type: ignore[misc]
            client.do(
                lambda now, leg=leg, chunk=chunk: client.agent.relayed(  # type: ignore[misc]
                    leg, address(AWAY, 5000), chunk, now
                )
            )
        for socket in list(client.sockets):
            client.do(
                lambda now, socket=socket, chunk=chunk: client.agent.datagram_received(  # type: ignore[misc]
                    socket, address(HOST, PORT), chunk, now
                )
            )
        world.run(rng.uniform(0, 0.05))
    world.run(60)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    client.close()
    world.run(3)
    assert not client.agent.closing and client.agent.next_timer() is None


def mutated(rng: Random, data: bytes) -> bytes:
    copy = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        copy[rng.randrange(len(copy))] = rng.randrange(256)
    return bytes(copy)


def test_secrets_stand_nowhere() -> None:
    """CONVENTIONS 17."""
    world = World()
    world.server()
    entry = turn()
    client = world.client(served(entry, transports=["udp", "tcp"]))
    client.gather()
    world.run(6)
    password = str(entry["password"])
    shown = repr([client.trace, client.events, client.commands, client.agent.server_reports(), client.agent])
    assert password not in shown and password.encode().hex() not in shown
