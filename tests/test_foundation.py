"""Foundations: alike candidates share one, and nothing else does (RFC 8445 s5.1.1.3)."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from itertools import count

import pytest

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.foundation import Foundations


@dataclass(frozen=True)
class Properties:
    type: CandidateType = CandidateType.SRFLX
    base_host: str = "10.0.1.1"
    transport: Transport = Transport.TCP
    tcptype: TcpType | None = TcpType.PASSIVE
    server: str | None = "192.0.2.10"


def foundation(foundations: Foundations, properties: Properties) -> str:
    return foundations.of(*astuple(properties))


def test_same_properties_same_foundation() -> None:
    foundations = Foundations()
    assert foundation(foundations, Properties()) == foundation(foundations, Properties())


@pytest.mark.parametrize(
    "other",
    [
        replace(Properties(), type=CandidateType.RELAY),
        replace(Properties(), base_host="10.0.1.2"),
        replace(Properties(), transport=Transport.UDP, tcptype=None),
        replace(Properties(), tcptype=TcpType.SO),
        replace(Properties(), server="192.0.2.11"),
        replace(Properties(), server=None),
    ],
)
def test_each_difference_makes_another_foundation(other: Properties) -> None:
    foundations = Foundations()
    assert foundation(foundations, Properties()) != foundation(foundations, other)


def test_tcptypes_are_told_apart_as_in_rfc6544_appendix_c() -> None:
    foundations = Foundations()
    host = [foundations.of(CandidateType.HOST, "10.0.1.1", Transport.TCP, tcptype) for tcptype in TcpType]
    srflx = [
        foundations.of(CandidateType.SRFLX, "10.0.1.1", Transport.TCP, tcptype, "192.0.2.9") for tcptype in TcpType
    ]
    assert host + srflx == ["1", "2", "3", "4", "5", "6"]


def test_stays_within_the_grammar() -> None:
    foundations = Foundations()
    address = TransportAddress("192.0.2.1", 1)
    for number, host in zip(count(1), (f"10.0.{high}.{low}" for high in range(8) for low in range(256)), strict=False):
        text = foundations.of(CandidateType.HOST, host, Transport.UDP, None)
        assert Candidate(text, 1, Transport.UDP, number, address, CandidateType.HOST).foundation == text
