"""The priority formulas, the vector of RFC 6544 Appendix C, and the order of a dual-stack host's addresses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates.candidate import (
    Candidate,
    CandidateType,
    InterfaceAddress,
    TcpType,
    Transport,
)
from candidates.priority import (
    DEFAULT,
    DirectionPreferences,
    Preferences,
    TypePreferences,
    candidate_priority,
    pair_priority,
    rank_addresses,
)
from candidates.sdp import parse_description
from tests.vectors import rfc6544_appendix_c as appendix_c

KINDS = [(Transport.UDP, None), *((Transport.TCP, tcptype) for tcptype in TcpType)]
RECOMMENDED = Preferences(udp=TypePreferences(), tcp=TypePreferences())


def appendix_c_candidates() -> Iterator[tuple[Candidate, Preferences]]:
    for sdp, types in (
        (appendix_c.TCP_ONLY_OFFER, appendix_c.TCP_ONLY_TYPES),
        (appendix_c.TCP_ONLY_ANSWER, appendix_c.TCP_ONLY_TYPES),
        (appendix_c.MIXED_OFFER, appendix_c.MIXED_TCP_TYPES),
        (appendix_c.MIXED_ANSWER, appendix_c.MIXED_TCP_TYPES),
    ):
        preferences = Preferences(udp=TypePreferences(host=126, srflx=100), tcp=TypePreferences(**types))
        for candidate in parse_description(sdp).candidates:
            yield candidate, preferences


class TestCandidatePriority:
    @pytest.mark.parametrize(("candidate", "preferences"), list(appendix_c_candidates()))
    def test_rfc6544_appendix_c(self, candidate: Candidate, preferences: Preferences) -> None:
        priority = candidate_priority(
            type=candidate.type,
            transport=candidate.transport,
            tcptype=candidate.tcptype,
            component=candidate.component,
            preferences=preferences,
        )
        assert priority == candidate.priority

    def test_rfc6544_appendix_c_has_ten_tcp_priorities(self) -> None:
        vector = {candidate.priority for candidate, _ in appendix_c_candidates() if candidate.tcptype}
        assert len(vector) == 10

    @pytest.mark.parametrize(
        ("type", "component", "rank", "priority"),
        [
            # RFC 8445 s5.1.2.1 by hand, with the values that s5.1.2.2 recommends.
            (CandidateType.HOST, 1, 0, (126 << 24) + (65535 << 8) + 255),
            (CandidateType.HOST, 2, 0, (126 << 24) + (65535 << 8) + 254),
            (CandidateType.HOST, 256, 1, (126 << 24) + (65534 << 8)),
            (CandidateType.PRFLX, 1, 0, (110 << 24) + (65535 << 8) + 255),
            (CandidateType.SRFLX, 1, 65534, (100 << 24) + (1 << 8) + 255),
            (CandidateType.RELAY, 1, 0, (65535 << 8) + 255),
        ],
    )
    def test_udp(self, type: CandidateType, component: int, rank: int, priority: int) -> None:  # noqa: A002
        assert priority == candidate_priority(
            type=type,
            transport=Transport.UDP,
            tcptype=None,
            component=component,
            rank=rank,
            preferences=RECOMMENDED,
        )

    @pytest.mark.parametrize(("transport", "tcptype"), KINDS)
    def test_checks_of_a_base_differ_from_it_in_type_preference_only(
        self, transport: Transport, tcptype: TcpType | None
    ) -> None:
        host, prflx = (
            candidate_priority(type=kind, transport=transport, tcptype=tcptype, component=2, rank=3)
            for kind in (CandidateType.HOST, CandidateType.PRFLX)
        )
        assert host % 2**24 == prflx % 2**24
        assert prflx >> 24 == DEFAULT.type_preference(CandidateType.PRFLX, transport)

    def test_by_default_udp_before_tcp_and_relays_last(self) -> None:
        kinds = sorted(
            product(CandidateType, KINDS),
            key=lambda kind: candidate_priority(type=kind[0], transport=kind[1][0], tcptype=kind[1][1], component=1),
            reverse=True,
        )
        assert [f"{kind} {tcptype or transport}" for kind, (transport, tcptype) in kinds] == [
            "host udp",
            "prflx udp",
            "srflx udp",
            "host active",
            "host passive",
            "host so",
            "prflx active",
            "prflx passive",
            "prflx so",
            "srflx so",
            "srflx active",
            "srflx passive",
            "relay udp",
            "relay active",
            "relay passive",
            "relay so",
        ]

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(CandidateType), st.sampled_from(KINDS), st.integers(1, 256), st.integers(0, 8190)
            ),
            unique=True,
            max_size=30,
        )
    )
    def test_priorities_are_valid_and_unique(self, properties: list[Any]) -> None:
        priorities = [
            candidate_priority(type=kind, transport=transport, tcptype=tcptype, component=component, rank=rank)
            for kind, (transport, tcptype), component, rank in properties
        ]
        assert len(set(priorities)) == len(properties)
        assert all(1 <= priority <= 2**31 - 1 for priority in priorities)

    @pytest.mark.parametrize(
        ("transport", "tcptype", "component", "rank"),
        [
            (Transport.TCP, None, 1, 0),
            (Transport.UDP, TcpType.SO, 1, 0),
            (Transport.UDP, None, 0, 0),
            (Transport.UDP, None, 257, 0),
            (Transport.UDP, None, 1, -1),
            (Transport.UDP, None, 1, 65535),
            (Transport.TCP, TcpType.SO, 1, 8191),
        ],
    )
    def test_misuse_raises(self, transport: Transport, tcptype: TcpType | None, component: int, rank: int) -> None:
        with pytest.raises(ValueError, match=r"is not from|tcptype"):
            candidate_priority(
                type=CandidateType.HOST, transport=transport, tcptype=tcptype, component=component, rank=rank
            )


class TestPairPriority:
    @pytest.mark.parametrize(
        ("controlling", "controlled", "priority"),
        [(1, 1, (1 << 32) + 2), (2, 1, (1 << 32) + 5), (1, 2, (1 << 32) + 4), (2**31 - 1, 2**31 - 1, 2**63 - 2)],
    )
    def test_formula(self, controlling: int, controlled: int, priority: int) -> None:
        assert pair_priority(controlling, controlled) == priority

    @given(*[st.integers(1, 2**31 - 1)] * 2)
    def test_both_sides_agree_and_it_fits_64_bits(self, one: int, other: int) -> None:
        assert 0 < pair_priority(one, other) < 2**64
        assert (pair_priority(one, other) == pair_priority(other, one)) is (one == other)
        assert pair_priority(one, other) >> 32 == min(one, other)


class TestPreferences:
    @pytest.mark.parametrize(
        ("make", "problem"),
        [
            (lambda: TypePreferences(host=127), "host 127 is not a number from 0 to 126"),
            (lambda: TypePreferences(relay=-1), "relay -1 is not a number from 0 to 126"),
            (lambda: TypePreferences(host=True), "host True is not a number from 0 to 126"),
            (lambda: TypePreferences(host=100), "are equal"),
            (lambda: TypePreferences(prflx=90), "prflx 90 is not higher than srflx 100"),
            (lambda: DirectionPreferences(active=8), "active 8 is not a number from 0 to 7"),
            (lambda: DirectionPreferences(active=2), "are equal"),
        ],
    )
    def test_rules_of_the_rfcs(self, make: Any, problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            make()

    def test_directions_of_rfc6544(self) -> None:
        directions = {
            kind: sorted(TcpType, key=partial(DEFAULT.direction_preference, kind), reverse=True)
            for kind in CandidateType
        }
        direct, nat = ["active", "passive", "so"], ["so", "active", "passive"]
        assert directions == {"host": direct, "prflx": direct, "relay": direct, "srflx": nat}


def addresses(hosts: str) -> list[InterfaceAddress]:
    return [InterfaceAddress("eth0", host) for host in hosts.split()]


ipv4_hosts = (
    st.sampled_from(["192.0.2.0/24", "169.254.0.0/16"]).flatmap(lambda net: st.ip_addresses(network=net)).map(str)
)
ipv6_hosts = st.sampled_from(["2001:db8::/32", "fe80::/64"]).flatmap(lambda net: st.ip_addresses(network=net)).map(str)


class TestRankAddresses:
    @pytest.mark.parametrize(
        ("given_order", "ranked"),
        [
            ("", ""),
            ("192.0.2.1 192.0.2.2", "192.0.2.1 192.0.2.2"),
            ("::2 ::3", "::2 ::3"),
            ("192.0.2.1 ::2", "::2 192.0.2.1"),
            ("192.0.2.1 192.0.2.2 192.0.2.3 ::2", "::2 192.0.2.1 192.0.2.2 192.0.2.3"),
            ("192.0.2.1 192.0.2.2 ::2 ::3", "::2 ::3 192.0.2.1 192.0.2.2"),
            # RFC 8421 s4: of two IPv4 and six IPv6 addresses the first IPv4 one comes after four IPv6 ones.
            (
                "192.0.2.1 192.0.2.2 ::2 ::3 ::4 ::5 ::6 ::7",
                "::2 ::3 ::4 ::5 192.0.2.1 ::6 192.0.2.2 ::7",
            ),
            ("fe80::1%eth0 169.254.0.1 192.0.2.1 ::2", "::2 192.0.2.1 fe80::1%eth0 169.254.0.1"),
        ],
    )
    def test_order(self, given_order: str, ranked: str) -> None:
        assert rank_addresses(addresses(given_order)) == addresses(ranked)

    @given(st.lists(st.one_of(ipv4_hosts, ipv6_hosts), unique=True, max_size=20))
    def test_loses_nothing_and_keeps_each_familys_order(self, hosts: list[str]) -> None:
        given_order = [InterfaceAddress("eth0", host) for host in hosts]
        ranked = rank_addresses(given_order)
        assert sorted(ranked, key=hosts_key) == sorted(given_order, key=hosts_key)
        for family, link_local in product((4, 6), (False, True)):
            before, after = (
                [each for each in order if (each.ip.version, each.ip.is_link_local) == (family, link_local)]
                for order in (given_order, ranked)
            )
            assert before == after


def hosts_key(address: InterfaceAddress) -> str:
    return address.host
