"""Construction, validation, immutability and identity of candidates and their addresses."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from candidates.candidate import (
    DISCARD_PORT,
    Candidate,
    CandidateError,
    CandidateType,
    InterfaceAddress,
    TcpType,
    Transport,
    TransportAddress,
)


def candidate(**changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "foundation": "1",
        "component": 1,
        "transport": Transport.UDP,
        "priority": 2130706431,
        "address": TransportAddress("192.0.2.1", 50000),
        "type": CandidateType.HOST,
    }
    return Candidate(**(fields | changes))


class TestTransportAddress:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("Host.Example", "host.example"),
            ("5A1B.local", "5a1b.local"),
        ],
    )
    def test_host_is_kept_in_its_canonical_spelling(self, given: str, kept: str) -> None:
        assert TransportAddress(given, 1).host == kept

    def test_equal_addresses_are_one_key(self) -> None:
        assert len({TransportAddress("2001:db8::1", 9), TransportAddress("2001:DB8:0::1", 9)}) == 1
        assert TransportAddress("192.0.2.1", 1) != TransportAddress("192.0.2.1", 2)

    @pytest.mark.parametrize(
        "host",
        [
            "",
            " ",
            "192.0.2",
            "192.0.2.256",
            "1.2.3.4.5",
            "::ffff:192.0.2.1",
            "[2001:db8::1]",
            "fe80::1%",
            "fe80::1%eth 0",
            "fe80::1%eth0\r\na=x",
            "-host.example",
            "host..example",
            "host name",
            "host\n",
            "hôte.example",
            "x" * 254,
            None,
            1,
        ],
    )
    def test_anything_else_is_no_host(self, host: Any) -> None:
        with pytest.raises(CandidateError) as error:
            TransportAddress(host, 1)
        assert error.value.field == "address"

    @pytest.mark.parametrize("port", [-1, 65536, True, 1.0, "1", None])
    def test_port_is_a_16_bit_number(self, port: Any) -> None:
        with pytest.raises(CandidateError, match=r"^port ") as error:
            TransportAddress("192.0.2.1", port)
        assert error.value.field == "port"

    def test_kinds_of_host(self) -> None:
        ipv4, ipv6 = TransportAddress("192.0.2.1", 1), TransportAddress("fe80::1%eth0", 1)
        mdns, name = TransportAddress("abc.LOCAL", 1), TransportAddress("local.example", 1)
        assert [each.family for each in (ipv4, ipv6, mdns, name)] == [4, 6, None, None]
        assert [each.is_name for each in (ipv4, ipv6, mdns, name)] == [False, False, True, True]
        assert [each.is_mdns for each in (ipv4, ipv6, mdns, name)] == [False, False, True, False]
        assert [each.is_link_local for each in (ipv4, ipv6, mdns, name)] == [False, True, False, False]

    def test_text_is_unambiguous(self) -> None:
        assert str(TransportAddress("192.0.2.1", 80)) == "192.0.2.1:80"
        assert str(TransportAddress("2001:db8::1", 80)) == "[2001:db8::1]:80"
        assert str(TransportAddress("host.example", 80)) == "host.example:80"


class TestInterfaceAddress:
    def test_has_an_ip_address(self) -> None:
        assert InterfaceAddress("eth0", "192.0.2.1").ip.version == 4

    def test_a_name_is_no_interface_address(self) -> None:
        with pytest.raises(CandidateError, match="interface"):
            _ = InterfaceAddress("eth0", "host.example").ip


class TestCandidate:
    def test_is_a_value(self) -> None:
        one, other = candidate(extensions=(("a", "b"),)), candidate(extensions=(("a", "b"),))
        assert one == other
        assert len({one, other, replace(other, priority=1)}) == 2
        assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one  # noqa: S301 - our own bytes

    def test_is_immutable(self) -> None:
        with pytest.raises(FrozenInstanceError):
            candidate().priority = 1  # type: ignore[misc]

    def test_keeps_extensions_as_a_tuple(self) -> None:
        given: Any = [["b", "2"], ["a", ""]]
        assert candidate(extensions=given).extensions == (("b", "2"), ("a", ""))

    def test_active_candidates_are_on_the_discard_port(self) -> None:
        address = TransportAddress("192.0.2.1", DISCARD_PORT)
        assert candidate(transport=Transport.TCP, tcptype=TcpType.ACTIVE, address=address).address.port == 9

    @pytest.mark.parametrize(
        ("field", "changes"),
        [
            ("foundation", {"foundation": ""}),
            ("foundation", {"foundation": "a" * 33}),
            ("foundation", {"foundation": "a-b"}),
            ("foundation", {"foundation": "1\n"}),
            ("foundation", {"foundation": 1}),
            ("component", {"component": 0}),
            ("component", {"component": 257}),
            ("component", {"component": True}),
            ("transport", {"transport": "udp"}),
            ("priority", {"priority": 0}),
            ("priority", {"priority": 2**31}),
            ("type", {"type": "host"}),
            ("port", {"address": TransportAddress("192.0.2.1", 0)}),
            ("tcptype", {"transport": Transport.TCP}),
            ("tcptype", {"tcptype": TcpType.SO}),
            ("tcptype", {"transport": Transport.TCP, "tcptype": "so"}),
            ("generation", {"generation": -1}),
            ("network-id", {"network_id": 2**32}),
            ("network-cost", {"network_cost": 1000}),
            ("ufrag", {"ufrag": "abc"}),
            ("ufrag", {"ufrag": "a" * 257}),
            ("extension", {"extensions": (("a",),)}),
            ("extension", {"extensions": (("", "b"),)}),
            ("extension", {"extensions": (("a b", "c"),)}),
            ("extension", {"extensions": (("a:b", "c"),)}),
            ("a", {"extensions": (("a", "b c"),)}),
            ("a", {"extensions": (("a", "b\r\nc"),)}),
            ("Rport", {"extensions": (("Rport", "9"),)}),
        ],
    )
    def test_error_names_the_field(self, field: str, changes: dict[str, Any]) -> None:
        with pytest.raises(CandidateError) as error:
            candidate(**changes)
        assert error.value.field == field
        assert str(error.value) == f"{field} {error.value.problem}"
