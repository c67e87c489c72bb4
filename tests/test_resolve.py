"""Servers by name, with a name server of our own on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias, cast

import dns.asyncresolver
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest

from candidates.candidate import TransportAddress
from candidates.policy.servers import parse_server_uri
from ice_tcp.core.commands import Close, LegTransport, QueryId, Resolve, ServerEndpoint
from ice_tcp.net.resolve import ResolveError, Resolver
from tests.loops import run
from tests.test_asyncio_net import HOST
from tests.test_driver import Session, turns

UDP, TCP, TLS, DTLS = LegTransport.UDP, LegTransport.TCP, LegTransport.TLS, LegTransport.DTLS
Zone: TypeAlias = Mapping[str, list[str]]
"""Records by "name type"."""

ADDRESSES: Zone = {
    "host.example A": ["192.0.2.1"],
    "host.example AAAA": ["2001:db8::1"],
    "other.example A": ["192.0.2.2"],
    "third.example AAAA": ["2001:db8::3"],
}


class NameServer(asyncio.DatagramProtocol):
    """Answers from a zone; names that are ``silent`` it never answers for."""

    def __init__(self, zone: Zone, silent: tuple[str, ...]) -> None:
        self._zone = zone
        self._silent = silent
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, source: tuple[str | int, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if name in self._silent or f"{name} {kind}" in self._silent:
            return
        answer = dns.message.make_response(query)
        records = self._zone.get(f"{name} {kind}")
        if records:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *records))
        elif not any(key.startswith(f"{name} ") for key in self._zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), source)


@asynccontextmanager
async def name_server(
    zone: Zone, *, silent: tuple[str, ...] = (), within: float = 10.0, records_within: float = 5.0
) -> AsyncIterator[tuple[Resolver, NameServer]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer({**ADDRESSES, **zone}, silent), local_addr=(HOST, 0)
    )
    asked = dns.asyncresolver.Resolver(configure=False)
    asked.nameservers = [HOST]
    asked.port = transport.get_extra_info("sockname")[1]

    async def addresses(name: str) -> list[str]:
        try:
            return list((await asked.resolve_name(f"{name}.")).addresses())
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None

    try:
        yield Resolver(dns=asked, addresses=addresses, timeout=within, records_timeout=records_within), server
    finally:
        transport.close()


def endpoint(transport: LegTransport, host: str, port: int) -> ServerEndpoint:
    return ServerEndpoint(transport, TransportAddress(host, port))


def both(transport: LegTransport, port: int) -> list[ServerEndpoint]:
    """The endpoints of host.example."""
    return [endpoint(transport, "2001:db8::1", port), endpoint(transport, "192.0.2.1", port)]


def resolved(
    uri: str, zone: Zone, *, silent: tuple[str, ...] = (), records_within: float = 5.0
) -> list[ServerEndpoint]:
    found: list[ServerEndpoint] = []

    async def main() -> None:
        async with name_server(zone, silent=silent, records_within=records_within) as (resolver, _):
            found.extend(await resolver.resolve(parse_server_uri(uri)))

    run(main())
    return found


def problem(uri: str, zone: Zone, *, silent: tuple[str, ...] = (), within: float = 10.0) -> str:
    text = ""

    async def main() -> None:
        nonlocal text
        async with name_server(zone, silent=silent, within=within) as (resolver, _):
            with pytest.raises(ResolveError) as caught:
                await resolver.resolve(parse_server_uri(uri))
            text = str(caught.value)

    run(main())
    return text


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("stun:192.0.2.9", [endpoint(UDP, "192.0.2.9", 3478), endpoint(TCP, "192.0.2.9", 3478)]),
        ("stuns:192.0.2.9", [endpoint(TLS, "192.0.2.9", 5349)]),
        ("turn:[2001:db8::9]:99?transport=udp", [endpoint(UDP, "2001:db8::9", 99)]),
        ("turns:192.0.2.9:443", [endpoint(TLS, "192.0.2.9", 443)]),
        ("turns:192.0.2.9?transport=udp", [endpoint(DTLS, "192.0.2.9", 5349)]),
    ],
)
def test_addresses_are_not_looked_up(uri: str, expected: list[ServerEndpoint]) -> None:
    async def main() -> None:
        async with name_server({}) as (resolver, server):
            assert await resolver.resolve(parse_server_uri(uri)) == expected
            assert server.asked == []

    run(main())


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("stun:host.example:99", both(UDP, 99) + both(TCP, 99)),
        ("stuns:host.example:99", both(TLS, 99)),
        ("turn:host.example:99", both(UDP, 99) + both(TCP, 99)),
        ("turn:host.example:99?transport=udp", both(UDP, 99)),
        ("turn:host.example:99?transport=tcp", both(TCP, 99)),
        ("turns:host.example:99", both(TLS, 99)),
    ],
)
def test_with_a_port_only_addresses_are_looked_up(uri: str, expected: list[ServerEndpoint]) -> None:
    async def main() -> None:
        async with name_server({}) as (resolver, server):
            found = await resolver.resolve(parse_server_uri(uri))
            assert sorted(found, key=str) == sorted(expected, key=str)
            assert [each.transport for each in found] == [each.transport for each in expected]
            assert sorted(server.asked) == ["host.example A", "host.example AAAA"]

    run(main())


@pytest.mark.parametrize(
    ("uri", "name", "transport"),
    [
        ("stun:host.example", "_stun._udp.host.example", UDP),
        ("stun:host.example", "_stun._tcp.host.example", TCP),
        ("stuns:host.example", "_stuns._tcp.host.example", TLS),
        ("turn:host.example", "_turn._udp.host.example", UDP),
        ("turn:host.example", "_turn._tcp.host.example", TCP),
        ("turn:host.example?transport=udp", "_turn._udp.host.example", UDP),
        ("turn:host.example?transport=tcp", "_turn._tcp.host.example", TCP),
        ("turns:host.example", "_turns._tcp.host.example", TLS),
        ("turns:host.example?transport=udp", "_turns._udp.host.example", DTLS),
    ],
)
def test_without_a_port_the_service_is_looked_up(uri: str, name: str, transport: LegTransport) -> None:
    found = resolved(uri, {f"{name} SRV": ["10 0 7000 other.example."]})
    assert [each for each in found if each.transport is transport] == [endpoint(transport, "192.0.2.2", 7000)]


def test_services_are_in_the_order_of_their_priorities_and_all_addresses_are_told() -> None:
    records = ["20 0 2 third.example.", "10 0 1 other.example.", "30 0 3 host.example."]
    found = resolved("turn:host.example?transport=udp", {"_turn._udp.host.example SRV": records})
    assert found[:2] == [endpoint(UDP, "192.0.2.2", 1), endpoint(UDP, "2001:db8::3", 2)]
    assert sorted(found[2:], key=str) == sorted(both(UDP, 3), key=str)


def test_among_equals_the_weights_decide() -> None:
    records = ["10 0 1 other.example.", "10 65535 2 other.example."]
    firsts = [
        resolved("turn:host.example?transport=udp", {"_turn._udp.host.example SRV": records})[0].address.port
        for _ in range(5)
    ]
    assert firsts == [2] * 5, "one in 65536 each"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("stun:host.example", both(UDP, 3478) + both(TCP, 3478)),
        ("stuns:host.example", both(TLS, 5349)),
        ("turn:host.example", both(UDP, 3478) + both(TCP, 3478)),
        ("turn:host.example?transport=tcp", both(TCP, 3478)),
        ("turns:host.example", both(TLS, 5349)),
    ],
)
def test_without_records_the_host_is_asked_at_the_default_port(uri: str, expected: list[ServerEndpoint]) -> None:
    assert sorted(resolved(uri, {}), key=str) == sorted(expected, key=str)


def test_a_service_that_is_decidedly_not_there() -> None:
    gone = {"_stun._tcp.host.example SRV": ["0 0 0 ."]}
    assert {each.transport for each in resolved("stun:host.example", gone)} == {UDP}
    assert problem("turn:host.example?transport=tcp", {"_turn._tcp.host.example SRV": ["0 0 0 ."]}) == (
        "host.example offers no tcp"
    )


# RFC 5928 s4: figures 1 and 2, of which we take what needs no certificate
FIGURES: Zone = {
    "example.net NAPTR": [
        '100 10 "" RELAY:turn.udp "" datagram.example.net.',
        '200 10 "" RELAY:turn.tcp:turn.tls "" stream.example.net.',
    ],
    "datagram.example.net NAPTR": ['100 10 S RELAY:turn.udp "" _turn._udp.example.net.'],
    "stream.example.net NAPTR": [
        '100 10 S RELAY:turn.tcp "" _turn._tcp.example.net.',
        '200 10 A RELAY:turn.tls "" a.example.net.',
    ],
    "_turn._udp.example.net SRV": ["0 0 3478 a.example.net."],
    "_turn._tcp.example.net SRV": ["0 0 5000 a.example.net."],
    "a.example.net A": ["192.0.2.1"],
    "example.com NAPTR": ['100 10 "" RELAY:turn.udp:turn.tcp:turn.tls "" example.net.'],
}


@pytest.mark.parametrize("host", ["example.net", "example.com"])
def test_the_figures_of_rfc_5928(host: str) -> None:
    expected = [endpoint(UDP, "192.0.2.1", 3478), endpoint(TCP, "192.0.2.1", 5000)]
    assert resolved(f"turn:{host}", FIGURES) == expected


def test_naptr_records_order_the_transports() -> None:
    zone = {
        "host.example NAPTR": [
            '100 20 A RELAY:turn.udp "" other.example.',
            '100 10 A relay:TURN.tcp "" third.example.',
        ]
    }
    found = resolved("turn:host.example", zone)
    assert found == [endpoint(TCP, "2001:db8::3", 3478), endpoint(UDP, "192.0.2.2", 3478)]


def test_a_transport_in_the_uri_needs_no_naptr_records() -> None:
    async def main() -> None:
        async with name_server(FIGURES) as (resolver, server):
            found = await resolver.resolve(parse_server_uri("turn:example.net?transport=tcp"))
            assert found == [endpoint(TCP, "192.0.2.1", 5000)]
            assert not [each for each in server.asked if "NAPTR" in each]

    run(main())


@pytest.mark.parametrize(
    "record",
    [
        '100 10 S SIP+D2U "" _sip._udp.host.example.',
        '100 10 A RELAY:turn.tls "" other.example.',
        '100 10 U RELAY:turn.udp "!^.*$!x!" .',
        '100 10 "" RELAY:turn.udp "" host.example.',
        '100 10 S RELAY:turn.udp "" nothing.example.',
    ],
)
def test_naptr_records_that_lead_nowhere_leave_the_other_ways(record: str) -> None:
    zone = {"host.example NAPTR": [record], "_turn._udp.host.example SRV": ["0 0 7000 other.example."]}
    assert resolved("turn:host.example", zone)[0] == endpoint(UDP, "192.0.2.2", 7000)


@pytest.mark.parametrize("kind", ["SRV", "NAPTR"])
def test_a_network_that_answers_for_addresses_only_costs_a_bounded_time(kind: str) -> None:
    silent = (f"_turn._udp.host.example {kind}", f"_turn._tcp.host.example {kind}", f"host.example {kind}")
    found = resolved("turn:host.example", {}, silent=silent, records_within=0.1)
    assert sorted(found, key=str) == sorted(both(UDP, 3478) + both(TCP, 3478), key=str)


@pytest.mark.parametrize("uri", ["stun:nothing.example", "turns:nothing.example:443", "turn:nothing.example"])
def test_a_name_that_does_not_resolve(uri: str) -> None:
    assert problem(uri, {}) == "nothing.example does not resolve: Name or service not known"


def test_a_service_at_a_name_that_does_not_resolve() -> None:
    zone = {"_turns._tcp.host.example SRV": ["0 0 443 nothing.example."]}
    assert problem("turns:host.example", zone) == "nothing.example does not resolve: Name or service not known"


def test_a_name_server_that_is_silent() -> None:
    text = problem("stun:host.example", {}, silent=("host.example A", "host.example AAAA"), within=0.1)
    assert text == "no answer for host.example in 0.1 s"


def test_addresses_that_no_socket_takes_are_left_out() -> None:
    zone = {"mapped.example AAAA": ["::ffff:192.0.2.1", "2001:db8::5"]}
    assert resolved("turn:mapped.example:1?transport=udp", zone) == [endpoint(UDP, "2001:db8::5", 1)]


def test_names_of_the_system_resolve() -> None:
    async def main() -> None:
        found = await Resolver().resolve(parse_server_uri("turn:localhost:3478?transport=udp"))
        assert {each.address.host for each in found} <= {"127.0.0.1", "::1"}
        assert found

    run(main())


# Through the driver

QUERY, OTHER_QUERY = QueryId(21), QueryId(22)


def test_the_core_hears_what_was_found_and_what_was_not() -> None:
    async def main() -> None:
        async with name_server({}) as (resolver, _):
            s = Session(resolver=resolver)
            s.do(Resolve(QUERY, parse_server_uri("turn:other.example:1?transport=tcp")))
            assert await s.core.input("resolved") == (QUERY, [endpoint(TCP, "192.0.2.2", 1)])
            s.do(Resolve(OTHER_QUERY, parse_server_uri("stun:nothing.example")))
            text = "nothing.example does not resolve: Name or service not known"
            assert await s.core.input("resolve_failed") == (OTHER_QUERY, text)
            s.do(Close(QUERY), Close(OTHER_QUERY))
            await s.driver.close()

    run(main())


@pytest.mark.parametrize("end", ["query", "session"])
def test_a_query_that_is_given_up_leaves_nothing(end: str) -> None:
    async def main() -> None:
        async with name_server({}, silent=("host.example",)) as (resolver, server):
            s = Session(resolver=resolver)
            s.do(Resolve(QUERY, parse_server_uri("stun:host.example")))
            while not server.asked:
                await turns(1)
            if end == "query":
                s.do(Close(QUERY))
            await s.driver.close()
            assert await s.core.input("close") == ()
            assert s.core.inputs.empty()

    run(main())
