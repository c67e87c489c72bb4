"""What is asked of the server, what it gives, how it refuses (RFC 8656 s7)."""

from __future__ import annotations

from typing import Any

import pytest

from candidates.candidate import Transport, TransportAddress
from ice_tcp import stun
from ice_tcp.core.turn import Advice, Allocated, Redirects, ServerFailure, ServerVerdict, State, Wishes
from ice_tcp.stun import AttributeType, MessageClass, Method
from tests.core_turn.script import KEY, MAPPED, RELAYED, RELAYED6, UdpScript, gave

TOKEN = b"12345678"


def asking(**wishes: Any) -> UdpScript:
    """An Allocate request with credentials is out."""
    script = UdpScript(wishes=Wishes(**wishes))
    script.start()
    script.challenge()
    script.key = KEY
    return script


def allocated(script: UdpScript) -> Allocated:
    assert script.told[-1][0] == "allocated"
    found = script.told[-1][1]
    assert isinstance(found, Allocated)
    assert script.machine.current is found
    return found


def test_plain_allocation() -> None:
    script = asking()
    assert script.last.requested_address_family is None
    assert script.last.additional_address_family is None
    assert script.last.even_port is None and not script.last.dont_fragment
    script.give(lifetime=777)
    found = allocated(script)
    assert (found.relayed, found.mapped, found.lifetime) == ((RELAYED,), MAPPED, 777)
    assert found.refused == () and found.reservation is None


def test_everything_that_can_be_wished() -> None:
    script = asking(even_port=True, reserve_next=True, dont_fragment=True, lifetime=3600, software="ice-tcp")
    for request in script.sent:
        assert request.even_port is True and request.dont_fragment
        assert request.lifetime == 3600 and request.software == "ice-tcp"
    script.answer(gave(script.last.transaction_id, more=[stun.reservation_token(TOKEN)]))
    assert allocated(script).reservation == TOKEN


def test_even_port_alone() -> None:
    assert asking(even_port=True).last.even_port is False


def test_reserved_port_is_taken() -> None:
    script = asking(reservation=TOKEN)
    assert script.last.reservation_token == TOKEN
    assert script.last.even_port is None and script.last.requested_address_family is None


def test_ipv6_alone() -> None:
    script = asking(families=(6,))
    assert script.last.requested_address_family == 6
    script.give([RELAYED6])
    assert allocated(script).relayed == (RELAYED6,)


def test_both_families() -> None:
    script = asking(families=(4, 6))
    assert script.last.additional_address_family == 6 and script.last.requested_address_family is None
    assert AttributeType.ADDITIONAL_ADDRESS_FAMILY_OF_DRAFT in script.last.attributes
    script.give([RELAYED, RELAYED6])
    found = allocated(script)
    assert (found.relayed_of(4), found.relayed_of(6)) == (RELAYED, RELAYED6)
    assert found.refused == ()


def test_an_address_that_is_none_fills_the_place_of_a_family() -> None:
    script = asking(families=(4, 6))
    script.give([RELAYED, TransportAddress("0.0.0.0", 0)])  # noqa: S104 - nothing is bound
    assert allocated(script).relayed == (RELAYED,)
    assert [family for family, _ in allocated(script).refused] == [6]


@pytest.mark.parametrize(
    ("relayed", "refused", "code", "cause"),
    [
        (RELAYED, 6, 440, ServerVerdict.FAMILY_NOT_SUPPORTED),
        (RELAYED6, 4, 508, ServerVerdict.INSUFFICIENT_CAPACITY),
    ],
)
def test_one_family_is_refused_in_the_success(
    relayed: TransportAddress, refused: int, code: int, cause: ServerVerdict
) -> None:
    script = asking(families=(4, 6))
    more = [stun.address_error_code(refused, code, "sorry")]
    script.answer(gave(script.last.transaction_id, [relayed], more=more))
    found = allocated(script)
    assert found.relayed == (relayed,)
    assert [(family, failure.cause) for family, failure in found.refused] == [(refused, cause)]


def test_old_server_ignores_the_second_family() -> None:
    script = asking(families=(4, 6))
    script.give([RELAYED])
    assert [family for family, _ in allocated(script).refused] == [6]


@pytest.mark.parametrize("code", [440, 443])
def test_both_families_fall_back_to_the_one_that_works(code: int) -> None:
    script = asking(families=(4, 6))
    script.refuse(code)
    assert script.last.additional_address_family is None and script.last.requested_address_family is None
    script.refuse(440)
    assert script.last.requested_address_family == 6
    script.give([RELAYED6])
    assert [family for family, _ in allocated(script).refused] == [4]


def test_no_family_works() -> None:
    script = asking(families=(4, 6))
    for _ in range(3):
        assert not script.told
        script.refuse(440)
    assert script.failure().cause is ServerVerdict.FAMILY_NOT_SUPPORTED


def test_one_family_is_not_asked_for_twice() -> None:
    script = asking(families=(6,))
    script.refuse(440)
    assert script.failure().cause is ServerVerdict.FAMILY_NOT_SUPPORTED


@pytest.mark.parametrize("wish", [{"even_port": True, "reserve_next": True}, {"reservation": TOKEN}])
def test_insufficient_capacity_drops_the_wish_for_a_port(wish: dict[str, Any]) -> None:
    script = asking(**wish)
    script.refuse(508)
    assert script.last.even_port is None and script.last.reservation_token is None
    script.give()
    assert allocated(script).reservation is None


@pytest.mark.parametrize(
    ("wish", "attribute"),
    [
        ({"dont_fragment": True}, AttributeType.DONT_FRAGMENT),
        ({"even_port": True}, AttributeType.EVEN_PORT),
        ({"reservation": TOKEN}, AttributeType.RESERVATION_TOKEN),
        ({"families": (4, 6)}, AttributeType.ADDITIONAL_ADDRESS_FAMILY),
    ],
)
def test_unknown_attribute_is_left_out(wish: dict[str, Any], attribute: AttributeType) -> None:
    script = asking(**wish)
    script.refuse(420, [stun.unknown_attributes([attribute])])
    assert attribute not in script.last.attributes
    script.give()
    allocated(script)


@pytest.mark.parametrize(
    "attributes", [[], [stun.unknown_attributes([0x7777])], [(AttributeType.UNKNOWN_ATTRIBUTES, b"\0")]]
)
def test_unknown_attribute_that_cannot_be_left_out(attributes: list[stun.Attribute]) -> None:
    script = asking(dont_fragment=True)
    script.refuse(420, attributes)
    assert script.failure().cause is ServerVerdict.UNKNOWN_ATTRIBUTE


@pytest.mark.parametrize(
    ("code", "cause", "advice", "retry_after"),
    [
        (400, ServerVerdict.BAD_REQUEST, Advice.STOP, None),
        (403, ServerVerdict.FORBIDDEN, Advice.STOP, None),
        (437, ServerVerdict.ALLOCATION_MISMATCH, Advice.NEW_SOCKET, None),
        (440, ServerVerdict.FAMILY_NOT_SUPPORTED, Advice.STOP, None),
        (441, ServerVerdict.WRONG_CREDENTIALS, Advice.STOP, None),
        (442, ServerVerdict.TRANSPORT_NOT_SUPPORTED, Advice.STOP, None),
        (486, ServerVerdict.QUOTA_REACHED, Advice.WAIT, 60.0),
        (500, ServerVerdict.SERVER_ERROR, Advice.OTHER_TRANSPORT, None),
        (508, ServerVerdict.INSUFFICIENT_CAPACITY, Advice.WAIT, 60.0),
        (699, ServerVerdict.OTHER_ERROR, Advice.STOP, None),
    ],
)
def test_error_codes(code: int, cause: ServerVerdict, advice: Advice, retry_after: float | None) -> None:
    script = asking()
    script.refuse(code)
    failure = script.failure()
    assert (failure.cause, failure.advice, failure.retry_after) == (cause, advice, retry_after)
    assert failure.text == f"{code} no"
    assert script.machine.state is State.ENDED
    assert script.clock.context.timers.next_at() is None


def test_reason_phrase_without_its_padding() -> None:
    script = asking()
    script.answer([stun.error_code(486, "Quota\0\0\0")], message_class=MessageClass.ERROR)
    assert script.failure().text == "486 Quota"


def test_every_cause_has_a_remedy() -> None:
    assert all(cause.remedy.endswith(".") for cause in ServerVerdict)


ALTERNATE = TransportAddress("203.0.113.77", 3479)


def test_alternate_server() -> None:
    script = UdpScript()
    script.start()
    attributes = [stun.alternate_server(ALTERNATE.host, ALTERNATE.port), stun.alternate_domain("turn2.example.org")]
    script.refuse(300, attributes)
    failure = script.failure()
    assert (failure.cause, failure.advice) == (ServerVerdict.TRY_ALTERNATE, Advice.ALTERNATE)
    assert (failure.alternate, failure.domain) == (ALTERNATE, "turn2.example.org")


@pytest.mark.parametrize(
    "attributes",
    [[], [stun.alternate_server("192.0.2.1", 0)], [stun.alternate_server("::ffff:192.0.2.1", 1)]],
)
def test_alternate_server_that_is_none(attributes: list[stun.Attribute]) -> None:
    script = UdpScript()
    script.start()
    script.refuse(300, attributes)
    assert script.failure().cause is ServerVerdict.MALFORMED


def to(server: TransportAddress) -> ServerFailure:
    return ServerFailure(ServerVerdict.TRY_ALTERNATE, advice=Advice.ALTERNATE, alternate=server)


def test_redirections_do_not_go_round() -> None:
    first = TransportAddress("203.0.113.1", 3478)
    redirects = Redirects()
    redirects.asked(first, 0.0)
    assert redirects.follow(to(ALTERNATE), 0.1) == ALTERNATE
    redirects.asked(ALTERNATE, 0.1)
    looped = redirects.follow(to(first), 299.0)
    assert isinstance(looped, ServerFailure) and looped.cause is ServerVerdict.REDIRECT_LOOP
    assert redirects.follow(to(first), 300.0) == first


def test_redirections_end() -> None:
    redirects = Redirects()
    found = [redirects.follow(to(TransportAddress("203.0.113.1", port)), 0.0) for port in range(1, 8)]
    assert [isinstance(each, ServerFailure) for each in found] == [False] * 5 + [True] * 2


@pytest.mark.parametrize(
    "relayed",
    [
        [],
        [RELAYED6],
        [RELAYED, RELAYED6],
        [RELAYED, RELAYED],
        [TransportAddress("0.0.0.0", 1)],  # noqa: S104 - nothing is bound
        [TransportAddress("198.51.100.1", 0)],
    ],
)
def test_relayed_addresses_that_were_not_asked_for_are_deleted(relayed: list[TransportAddress]) -> None:
    script = asking()
    script.give(relayed)
    assert script.failure().cause is ServerVerdict.UNEXPECTED_ADDRESS
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)
    assert script.clock.context.timers.next_at() is None


@pytest.mark.parametrize(
    "attribute",
    [
        (AttributeType.LIFETIME, b"\0"),
        (AttributeType.XOR_MAPPED_ADDRESS, b"\0\3"),
        (AttributeType.ADDRESS_ERROR_CODE, b"\0"),
        (AttributeType.XOR_RELAYED_ADDRESS, b"\0\1"),
    ],
)
def test_malformed_success_is_deleted(attribute: stun.Attribute) -> None:
    script = asking()
    attributes = [each for each in gave(script.last.transaction_id) if each[0] != attribute[0]]
    script.answer([*attributes, attribute])
    assert script.failure().cause is ServerVerdict.MALFORMED
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)


def test_allocation_without_a_life() -> None:
    script = asking()
    script.give(lifetime=0)
    assert script.failure().cause is ServerVerdict.EXPIRED


def test_what_a_server_may_leave_out() -> None:
    script = asking()
    script.answer(gave(script.last.transaction_id, lifetime=None, mapped=None))
    found = allocated(script)
    assert (found.mapped, found.lifetime) == (None, 600)


@pytest.mark.parametrize(
    "wishes",
    [
        {"families": ()},
        {"families": (6, 4)},
        {"reserve_next": True},
        {"even_port": True, "reserve_next": True, "families": (4, 6)},
        {"reservation": TOKEN, "even_port": True},
        {"reservation": TOKEN, "families": (6,)},
        {"reservation": b"short"},
        {"transport": Transport.TCP, "even_port": True},
        {"transport": Transport.TCP, "reservation": TOKEN},
        {"transport": Transport.TCP, "dont_fragment": True},
        {"lifetime": 0},
        {"lifetime": 1 << 32},
    ],
)
def test_wishes_that_the_rfcs_exclude(wishes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Wishes(**wishes)


def test_failure_speaks_to_people() -> None:
    script = asking()
    script.refuse(486)
    assert str(script.failure()) == "server-error-486: 486 no"
    assert "quota" in script.failure().remedy
    assert str(ServerFailure(ServerVerdict.NO_CREDENTIALS)) == "server-no-credentials"


def test_machine_starts_once() -> None:
    script = asking()
    with pytest.raises(RuntimeError):
        script.start()


def test_only_redirections_are_followed() -> None:
    with pytest.raises(ValueError):
        Redirects().follow(ServerFailure(ServerVerdict.QUOTA_REACHED), 0.0)


def test_udp_allocation_relays_no_tcp() -> None:
    with pytest.raises(ValueError):
        UdpScript(wishes=Wishes(transport=Transport.TCP))
