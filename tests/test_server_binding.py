"""Binding and NAT behaviour discovery at the server (RFC 8489, RFC 5780)."""

from __future__ import annotations

import itertools

import pytest

from ice_tcp.server.core.actions import Leg, Listener, SendDatagram
from ice_tcp.stun import (
    AttributeType,
    Message,
    MessageClass,
    Method,
    change_request,
    decode,
    encode,
    padding,
    priority,
    response_port,
)
from tests.server_world import SERVER, SERVER6, SERVER_OTHER, User, World

CLIENT = ("198.51.100.1", 5000)
FOUR = tuple(
    Listener(leg, (host, port))
    for leg, host, port in itertools.product((Leg.UDP, Leg.TCP), (SERVER, SERVER_OTHER), (3478, 3479))
)


def ask(
    world: World, *attributes: tuple[int, bytes], listener: int = 0, fingerprint: bool = True
) -> tuple[SendDatagram, Message]:
    request = encode(MessageClass.REQUEST, Method.BINDING, b"behaviour-ok", attributes, fingerprint=fingerprint)
    world.core.datagram_received(listener, CLIENT, request, world.now)
    world.run()
    (sent,) = world.take()
    assert isinstance(sent, SendDatagram)
    response = decode(sent.data)
    assert response.transaction_id == b"behaviour-ok"
    return sent, response


def test_a_plain_server_tells_the_address() -> None:
    sent, response = ask(World())
    assert (sent.listener, sent.remote) == (0, CLIENT)
    assert response.xor_mapped_address == CLIENT
    assert response.response_origin == (SERVER, 3478)
    assert response.other_address is None and response.mapped_address is None


def test_ipv6_and_connections_are_answered_where_they_ask() -> None:
    world = World()
    six = User(world, address=("2001:db8:2::2", 5000))
    assert six.ask(Method.BINDING).xor_mapped_address == six.address
    assert six.ask(Method.BINDING).response_origin == (SERVER6, 3478)
    assert User(world, leg=Leg.TLS).ask(Method.BINDING).xor_mapped_address == CLIENT


def test_fingerprint_answers_fingerprint() -> None:
    assert ask(World())[1].has_fingerprint
    assert not ask(World(), fingerprint=False)[1].has_fingerprint


@pytest.mark.parametrize("attribute", [change_request(change_ip=False, change_port=True), padding(4), response_port(1)])
def test_a_server_with_one_address_knows_nothing_of_rfc_5780(attribute: tuple[int, bytes]) -> None:
    _, response = ask(World(), attribute)
    assert response.error_code is not None and response.error_code.code == 420
    assert response.unknown_attributes == (attribute[0],)


def test_attributes_of_ice_are_unknown_to_a_server() -> None:
    _, response = ask(World(), priority(1))
    assert response.unknown_attributes == (AttributeType.PRIORITY,)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("change_ip", [False, True])
@pytest.mark.parametrize("change_port", [False, True])
def test_table_1_of_rfc_5780(at: int, change_ip: bool, change_port: bool) -> None:
    sent, response = ask(
        World(listeners=FOUR), change_request(change_ip=change_ip, change_port=change_port), listener=at
    )
    host, port = FOUR[at].address
    other_host, other_port = (SERVER_OTHER if host == SERVER else SERVER), (3479 if port == 3478 else 3478)
    source = (other_host if change_ip else host, other_port if change_port else port)
    assert FOUR[sent.listener] == Listener(Leg.UDP, source)
    assert sent.remote == CLIENT
    assert response.response_origin == source
    assert response.other_address == (other_host, other_port)
    assert response.xor_mapped_address == response.mapped_address == CLIENT


def test_response_port_goes_to_another_port_of_the_same_address() -> None:
    sent, response = ask(World(listeners=FOUR), response_port(777))
    assert sent.remote == (CLIENT[0], 777)
    assert response.xor_mapped_address == CLIENT


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (3, 4), (600, 600), (1500, 1500), (9000, 1500)])
def test_padding_is_the_mtu_but_no_more_than_was_sent(asked: int, given: int) -> None:
    sent, response = ask(World(listeners=FOUR), padding(asked))
    assert len(response.attributes[AttributeType.PADDING]) == given
    assert len(sent.data) < asked + 200


def test_padding_and_response_port_exclude_each_other() -> None:
    _, response = ask(World(listeners=FOUR), padding(4), response_port(1))
    assert response.error_code is not None and response.error_code.code == 400


def test_malformed_attributes_are_a_bad_request() -> None:
    _, response = ask(World(listeners=FOUR), (AttributeType.CHANGE_REQUEST, b"\0"))
    assert response.error_code is not None and response.error_code.code == 400


def test_connections_tell_the_other_address_but_cannot_be_changed() -> None:
    world = World(listeners=FOUR)
    stream = world.core.stream_accepted(4, CLIENT, world.now)
    assert stream is not None
    responses = []
    for attributes in ([], [change_request(change_ip=True, change_port=True)]):
        world.core.stream_received(
            stream, encode(MessageClass.REQUEST, Method.BINDING, bytes(12), attributes), world.now
        )
        world.run()
    responses = [decode(action.data) for action in world.take()]  # type: ignore[union-attr]
    assert responses[0].other_address == (SERVER_OTHER, 3479)
    assert responses[1].error_code is not None and responses[1].error_code.code == 420


@pytest.mark.parametrize("missing", range(4))
def test_three_of_four_addresses_are_no_behaviour_server(missing: int) -> None:
    world = World(listeners=[listener for i, listener in enumerate(FOUR[:4]) if i != missing])
    assert ask(world)[1].other_address is None
