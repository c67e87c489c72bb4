"""The Binding job: our address as a server sees it (RFC 8489 s13, RFC 5780 s7)."""

from __future__ import annotations

import pytest

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.turn import BindingJob, Mapping, ServerFailure, ServerVerdict
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import AttributeType, MessageClass, Method
from tests.core_turn.script import MAPPED, Script

OTHER = TransportAddress("203.0.113.2", 3479)
ORIGIN = TransportAddress("203.0.113.1", 3478)


class BindingScript(Script[BindingJob]):
    def __init__(self, *, reliable: bool = False) -> None:
        super().__init__(reliable=reliable)
        self.machine = BindingJob(
            self.clock.context, self.wire, self.listener, server="stun:test", note=self.note, software="ice-tcp"
        )
        self.machine.start(self.now)

    def hear(self, data: bytes) -> None:
        self.machine.received(data, self.now)

    def mapped(self) -> stun.Attribute:
        return stun.xor_mapped_address(MAPPED.host, MAPPED.port, self.last.transaction_id)


@pytest.mark.parametrize("reliable", [False, True])
def test_mapped_address(reliable: bool) -> None:
    script = BindingScript(reliable=reliable)
    assert (script.last.method, script.last.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert script.last.software == "ice-tcp" and not script.last.has_integrity
    script.answer([script.mapped()])
    assert script.told == [("mapped", Mapping(MAPPED))]
    assert not script.machine.running
    assert script.clock.context.timers.next_at() is None


def test_nat_behaviour_servers_tell_more() -> None:
    script = BindingScript()
    more = [
        stun.other_address(OTHER.host, OTHER.port),
        stun.response_origin(ORIGIN.host, ORIGIN.port),
        stun.software("x"),
    ]
    script.answer([script.mapped(), *more])
    assert script.told == [("mapped", Mapping(MAPPED, OTHER, ORIGIN, "x"))]


def test_malformed_extras_do_not_spoil_the_mapping() -> None:
    script = BindingScript()
    types = (AttributeType.OTHER_ADDRESS, AttributeType.RESPONSE_ORIGIN, AttributeType.SOFTWARE)
    script.answer([script.mapped(), *((type_, b"\xff") for type_ in types)])
    assert script.told == [("mapped", Mapping(MAPPED))]


def test_old_server_knows_the_plain_address_only() -> None:
    script = BindingScript()
    attributes = [stun.mapped_address(MAPPED.host, MAPPED.port), (AttributeType.SOURCE_ADDRESS, bytes(8))]
    script.answer(attributes)
    assert script.told == [("mapped", Mapping(MAPPED))]


@pytest.mark.parametrize(
    "attributes",
    [
        [],
        [(AttributeType.XOR_MAPPED_ADDRESS, b"\0\1")],
        [stun.mapped_address("192.0.2.1", 0)],
        [stun.mapped_address("::ffff:192.0.2.1", 1)],
    ],
)
def test_no_usable_address(attributes: list[stun.Attribute]) -> None:
    script = BindingScript()
    script.answer(attributes)
    assert script.failure().cause is ServerVerdict.MALFORMED


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (400, ServerVerdict.BAD_REQUEST),
        (401, ServerVerdict.UNAUTHENTICATED),
        (420, ServerVerdict.UNKNOWN_ATTRIBUTE),
        (500, ServerVerdict.SERVER_ERROR),
    ],
)
def test_error_codes(code: int, cause: ServerVerdict) -> None:
    script = BindingScript()
    script.refuse(code)
    assert script.failure().cause is cause


@pytest.mark.parametrize("reliable", [False, True])
def test_time_out(reliable: bool) -> None:
    script = BindingScript(reliable=reliable)
    script.clock.advance(39.4)
    assert not script.told
    script.clock.advance(0.2)
    assert script.failure().cause is ServerVerdict.NO_RESPONSE
    assert len(script.wire.sent) == (1 if reliable else 7)


def test_connection_refused() -> None:
    script = BindingScript(reliable=True)
    script.machine.path_lost(Verdict.REFUSED, script.now)
    assert script.failure().cause is Verdict.REFUSED
    script.machine.path_lost(Verdict.REFUSED, script.now)
    assert len(script.told) == 1


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\2\2\x28", b"220 mail\r\n"]
)
def test_another_service_answers(greeting: bytes) -> None:
    script = BindingScript(reliable=True)
    script.hear(greeting)
    assert script.failure().cause is ServerVerdict.NOT_STUN
    datagrams = BindingScript()
    datagrams.hear(greeting)
    assert not datagrams.told
    datagrams.clock.advance(40)
    assert datagrams.failure().cause is ServerVerdict.NOT_STUN


def test_what_does_not_belong_here_is_ignored() -> None:
    script = BindingScript()
    script.answer([script.mapped()], transaction_id=bytes(12))
    script.answer([script.mapped()], method=Method.ALLOCATE)
    script.hear(stun.encode(MessageClass.INDICATION, Method.BINDING, bytes(12)))
    script.hear(stun.encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))
    script.hear(b"\x40\0\0\0")
    assert not script.told
    script.answer([script.mapped()])
    assert script.told == [("mapped", Mapping(MAPPED))]


def test_cancelled() -> None:
    script = BindingScript()
    script.machine.cancel()
    script.answer([script.mapped()])
    script.clock.advance(40)
    assert not script.told and len(script.wire.sent) == 1


def test_one_binding_at_a_time() -> None:
    script = BindingScript()
    with pytest.raises(RuntimeError):
        script.machine.start(script.now)


def test_asked_again_on_the_same_path() -> None:
    script = BindingScript(reliable=True)
    script.answer([script.mapped()])
    script.machine.start(script.now)
    script.answer([stun.mapped_address("203.0.113.9", 40001)])
    assert script.told[-1] == ("mapped", Mapping(TransportAddress("203.0.113.9", 40001)))
    assert isinstance(script.told[-1][1], Mapping) and not isinstance(script.told[-1][1], ServerFailure)
