"""The candidate attribute and the other ICE attributes, from text and to text."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates.candidate import (
    RESERVED_EXTENSIONS,
    Candidate,
    CandidateError,
    CandidateType,
    TcpType,
    Transport,
    TransportAddress,
)
from candidates.parameters import IceParameters, ParametersError
from candidates.sdp import (
    IceDescription,
    UnknownTransportError,
    UnknownTypeError,
    UnsupportedCandidateError,
    format_candidate,
    format_description,
    format_parameters,
    may_use,
    parse_candidate,
    parse_description,
)
from tests.vectors import rfc6544_appendix_c as appendix_c

UDP = "1 1 UDP 2130706431 192.0.2.1 50000 typ host"
TCP = "candidate:1 1 TCP 2124414975 192.0.2.1 8998 typ host tcptype passive"
UFRAG = "8hhY"
PWD = "asd88fgpdd777uzjYhagZg"

ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
TOKEN_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"  # RFC 3261 s25.1

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.integers(2**48, 2**128 - 1).map(IPv6Address).map(str),  # beyond the IPv4-mapped ones
    st.lists(labels, min_size=1, max_size=4).map(".".join),
)
numbers = st.none() | st.integers(0, 2**32 - 1)
extensions = st.lists(
    st.tuples(
        st.text(TOKEN_CHARS, min_size=1, max_size=12).filter(lambda name: name.lower() not in RESERVED_EXTENSIONS),
        st.text(VISIBLE, max_size=12),
    ),
    max_size=4,
).map(tuple)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    transport = draw(st.sampled_from(Transport))
    return Candidate(
        foundation=draw(st.text(ICE_CHARS, min_size=1, max_size=32)),
        component=draw(st.integers(1, 256)),
        transport=transport,
        priority=draw(st.integers(1, 2**31 - 1)),
        address=TransportAddress(draw(hosts), draw(st.integers(1, 65535))),
        type=draw(st.sampled_from(CandidateType)),
        related_address=draw(st.none() | st.builds(TransportAddress, hosts, st.integers(0, 65535))),
        tcptype=draw(st.sampled_from(TcpType)) if transport is Transport.TCP else None,
        generation=draw(numbers),
        ufrag=draw(st.none() | st.text(ICE_CHARS, min_size=4, max_size=256)),
        network_id=draw(numbers),
        network_cost=draw(st.none() | st.integers(0, 999)),
        extensions=draw(extensions),
    )


parameters = st.builds(
    IceParameters,
    ufrag=st.text(ICE_CHARS, min_size=4, max_size=32),
    pwd=st.text(ICE_CHARS, min_size=22, max_size=256),
    options=st.lists(st.text(ICE_CHARS, min_size=1, max_size=8), unique=True, max_size=4).map(tuple),
    lite=st.booleans(),
    pacing=st.none() | st.integers(0, 10**10 - 1),
)

# Text that is nearly a candidate reaches deeper than random text does.
WORDS = (
    "1 0 UDP tcp sctp 192.0.2.1 ::1 fe80::1%eth0 a.local typ host srflx raddr rport tcptype so generation ufrag "
    "network-cost x 99999999999 é %"
)
words = st.sampled_from([*WORDS.split(), "", "\r\n"])
near_candidates = st.builds(
    lambda prefix, tokens: prefix + " ".join(tokens),
    st.sampled_from(["", "a=", "candidate:", "a=candidate:", "1 1 UDP 1 192.0.2.1 9 typ host "]),
    st.lists(words | st.text(max_size=3), max_size=16),
)


T = TypeVar("T")


def outcome(parse: Callable[[], T]) -> T | CandidateError | ParametersError:
    """What the parser gives, or which of its own errors it raises; any other exception is a failed test."""
    try:
        return parse()
    except (CandidateError, ParametersError) as error:
        return error


class TestRoundTrip:
    @given(candidates())
    def test_of_every_candidate(self, candidate: Candidate) -> None:
        assert parse_candidate(format_candidate(candidate)) == candidate

    @given(st.text() | near_candidates)
    def test_any_text_is_a_candidate_or_a_candidate_error(self, text: str) -> None:
        match outcome(lambda: parse_candidate(text)):
            case CandidateError() as error:
                assert error.field
                assert error.problem
            case Candidate() as candidate:
                assert parse_candidate(format_candidate(candidate)) == candidate

    @given(parameters, st.lists(candidates(), max_size=3), st.booleans())
    def test_of_every_description(self, parameters: IceParameters, found: list[Candidate], ended: bool) -> None:
        description = IceDescription(parameters, tuple(found), ended)
        assert parse_description(format_description(description)) == description

    @given(
        st.text()
        | st.lists(st.sampled_from(["m=", "a=ice-ufrag:8hhY", "a=ice-pacing:x", UDP, "a=" + TCP])).map("\n".join)
    )
    def test_any_text_is_a_description_or_an_error_that_names_a_field(self, text: str) -> None:
        match outcome(lambda: parse_description(f"a=ice-pwd:{PWD}\n{text}")):
            case ParametersError() | CandidateError() as error:
                assert error.field
                assert error.problem
            case IceDescription() as description:
                assert description.parameters.pwd == PWD

    @pytest.mark.parametrize(
        "sdp",
        [appendix_c.TCP_ONLY_OFFER, appendix_c.TCP_ONLY_ANSWER, appendix_c.MIXED_OFFER, appendix_c.MIXED_ANSWER],
    )
    def test_of_rfc6544_appendix_c_to_the_letter(self, sdp: str) -> None:
        lines = [line for line in sdp.splitlines() if line.startswith("a=candidate")]
        candidates = parse_description(sdp).candidates
        assert [f"a={format_candidate(candidate)}" for candidate in candidates] == lines


class TestParseCandidate:
    def test_every_field(self) -> None:
        candidate = parse_candidate(
            "candidate:Ab+/ 2 tcp 1692401663 2001:DB8::1 45687 typ srflx raddr fd00::1 rport 8999 tcptype so"
            " generation 1 ufrag 8hhY network-id 3 network-cost 50 x-b 2 x-a 1"
        )
        assert candidate == Candidate(
            foundation="Ab+/",
            component=2,
            transport=Transport.TCP,
            priority=1692401663,
            address=TransportAddress("2001:db8::1", 45687),
            type=CandidateType.SRFLX,
            related_address=TransportAddress("fd00::1", 8999),
            tcptype=TcpType.SO,
            generation=1,
            ufrag="8hhY",
            network_id=3,
            network_cost=50,
            extensions=(("x-b", "2"), ("x-a", "1")),
        )

    @pytest.mark.parametrize("prefix", ["", "a=", "candidate:", "a=candidate:", "a=Candidate:"])
    @pytest.mark.parametrize("end", ["", "\n", "\r\n", " \r\n"])
    def test_with_or_without_prefix_and_line_end(self, prefix: str, end: str) -> None:
        assert parse_candidate(prefix + UDP + end) == parse_candidate(UDP)

    @pytest.mark.parametrize(
        ("spelled", "usual"),
        [
            ("1 1 udp 1 192.0.2.1 9 TYP HOST", "1 1 UDP 1 192.0.2.1 9 typ host"),
            ("1 1 Tcp 1 192.0.2.1 9 typ Host TcpType SO", "1 1 TCP 1 192.0.2.1 9 typ host tcptype so"),
            ("1 1 UDP 1 ::1 9 typ relay RADDR ::2 RPORT 8", "1 1 UDP 1 ::1 9 typ relay raddr ::2 rport 8"),
            ("1 1 UDP 1 ::1 9 typ host Generation 0", "1 1 UDP 1 ::1 9 typ host generation 0"),
            ("1 001 UDP 0000000001 ::1 00009 typ host", "1 1 UDP 1 ::1 9 typ host"),
        ],
    )
    def test_spelling_that_peers_differ_in(self, spelled: str, usual: str) -> None:
        assert parse_candidate(spelled) == parse_candidate(usual)

    def test_pairs_after_the_type_come_in_any_order(self) -> None:
        usual = "1 1 TCP 1 192.0.2.1 9 typ srflx raddr 10.0.0.1 rport 9 tcptype active generation 0 x y"
        mixed = "1 1 TCP 1 192.0.2.1 9 typ srflx generation 0 x y tcptype active rport 9 raddr 10.0.0.1"
        assert parse_candidate(mixed) == parse_candidate(usual)

    def test_tcptype_is_written_right_after_the_related_address(self) -> None:
        text = "candidate:1 1 TCP 1 192.0.2.1 9 typ srflx raddr 10.0.0.1 rport 9 tcptype active generation 0 x y"
        assert format_candidate(parse_candidate(text)) == text

    def test_an_extension_value_may_be_empty(self) -> None:
        assert parse_candidate(UDP + " x  y z").extensions == (("x", ""), ("y", "z"))
        assert parse_candidate(UDP + " x ").extensions == (("x", ""),)

    @pytest.mark.parametrize(
        ("address", "pairs", "related"),
        [
            ("192.0.2.1", "raddr 10.0.0.1", TransportAddress("10.0.0.1", 9)),
            ("192.0.2.1", "rport 8998", TransportAddress("0.0.0.0", 8998)),  # noqa: S104 - as RFC 8839 s9.1 hides it
            ("2001:db8::1", "rport 8998", TransportAddress("::", 8998)),
            ("2001:db8::1", "raddr :: rport 0", TransportAddress("::", 0)),
        ],
    )
    def test_half_a_related_address(self, address: str, pairs: str, related: TransportAddress) -> None:
        assert parse_candidate(f"1 1 UDP 1 {address} 9 typ srflx {pairs}").related_address == related

    def test_zones_stay_on_their_host(self) -> None:
        candidate = parse_candidate("1 1 UDP 1 fe80::1%eth0 9 typ srflx raddr fe80::2%eth0 rport 8")
        assert candidate.address == TransportAddress("fe80::1", 9)
        assert candidate.related_address == TransportAddress("fe80::2", 8)
        local = Candidate("1", 1, Transport.UDP, 1, TransportAddress("fe80::1%eth0", 9), CandidateType.HOST)
        assert format_candidate(local) == "candidate:1 1 UDP 1 fe80::1 9 typ host"

    @pytest.mark.parametrize("host", ["5a1b2c3d-0000-4000-8000-000000000000.local", "host.example"])
    def test_host_names_are_parsed(self, host: str) -> None:
        candidate = parse_candidate(f"1 1 UDP 1 {host} 9 typ host")
        assert candidate.address.is_name
        assert candidate.address.host == host

    @pytest.mark.parametrize(
        ("host", "alone", "with_mdns"),
        [("192.0.2.1", True, True), ("::1", True, True), ("a.local", False, True), ("host.example", False, False)],
    )
    def test_host_names_are_ignored_but_for_mdns(self, host: str, alone: bool, with_mdns: bool) -> None:
        candidate = parse_candidate(f"1 1 UDP 1 {host} 9 typ host")
        assert may_use(candidate) is alone
        assert may_use(candidate, mdns=True) is with_mdns

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (UnknownTransportError, "1 1 SCTP 1 192.0.2.1 9 typ host"),
            (UnknownTransportError, "1 1 ssltcp whatever else 9 typ host"),
            (UnknownTransportError, "1 1 TCP-ACT 1 192.0.2.1 9 typ host"),
            (UnknownTypeError, "1 1 UDP 1 192.0.2.1 9 typ nat-assisted"),
        ],
    )
    def test_unknown_kinds_are_told_apart_from_malformed_ones(
        self, error: type[UnsupportedCandidateError], text: str
    ) -> None:
        with pytest.raises(error, match="to be ignored"):
            parse_candidate(text)

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("foundation", "a=candidate:"),
            ("foundation", " " + UDP),
            ("foundation", "a-b 1 UDP 1 192.0.2.1 9 typ host"),
            ("component", "1"),
            ("component", "1 x UDP 1 192.0.2.1 9 typ host"),
            ("component", "1 0 UDP 1 192.0.2.1 9 typ host"),
            ("transport", "1 1"),
            ("transport", "1 1 U/P 1 192.0.2.1 9 typ host"),
            ("priority", "1 1 UDP"),
            ("priority", "1 1 UDP 2147483648 192.0.2.1 9 typ host"),
            ("priority", "1 1 UDP +1 192.0.2.1 9 typ host"),
            ("address", "1 1 UDP 1 192.0.2.256 9 typ host"),
            ("address", "1 1 UDP 1 [::1] 9 typ host"),
            ("port", "1 1 UDP 1 192.0.2.1"),
            ("port", "1 1 UDP 1 192.0.2.1 65536 typ host"),
            ("port", "1 1 UDP 1 192.0.2.1 0 typ host"),
            ("typ", "1 1 UDP 1 192.0.2.1 9"),
            ("typ", "1 1 UDP 1 192.0.2.1 9 type host"),
            ("type", "1 1 UDP 1 192.0.2.1 9 typ"),
            ("type", "1 1 UDP 1 192.0.2.1 9 typ "),
            ("raddr", UDP + " raddr"),
            ("raddr", UDP + " raddr 10.0.0.256 rport 1"),
            ("rport", UDP + " raddr 10.0.0.1 rport x"),
            ("rport", UDP + " raddr 10.0.0.1 rport 65536"),
            ("tcptype", "1 1 TCP 1 192.0.2.1 9 typ host"),
            ("tcptype", "1 1 TCP 1 192.0.2.1 9 typ host tcptype both"),
            ("tcptype", TCP + " tcptype passive"),
            ("tcptype", UDP + " tcptype so"),
            ("generation", UDP + " generation x"),
            ("generation", UDP + " generation 4294967296"),
            ("ufrag", UDP + " ufrag abc"),
            ("network-id", UDP + " network-id -1"),
            ("network-cost", UDP + " network-cost 1000"),
            ("extension", UDP + " x"),
            ("extension", UDP + " x:y z"),
            ("extension", UDP + "  x"),
            ("x", UDP + " x a\tb"),
            ("candidate", "1 \u0661 UDP 1 192.0.2.1 9 typ host"),  # a digit to int(), not to the grammar
        ],
    )
    def test_malformed_text_names_the_field(self, field: str, text: str) -> None:
        with pytest.raises(CandidateError) as error:
            parse_candidate(text)
        assert not isinstance(error.value, UnsupportedCandidateError)
        assert error.value.field == field


class TestDescription:
    def test_rfc6544_appendix_c(self) -> None:
        description = parse_description(appendix_c.TCP_ONLY_OFFER)
        assert description.parameters == IceParameters("8hhY", "asd88fgpdd777uzjYhagZg")
        assert [candidate.tcptype for candidate in description.candidates] == ["active", "passive", "so"] * 2
        assert not description.end_of_candidates

    def test_every_attribute(self) -> None:
        description = parse_description(
            f"a=ice-lite\r\na=ice-pacing:20\r\na=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PWD}\r\n"
            "a=ice-options:trickle ice2\r\na=ice-options:renomination x+y\r\na=end-of-candidates\r\n"
        )
        options = ("trickle", "ice2", "renomination", "x+y")
        assert description.parameters == IceParameters(UFRAG, PWD, options, lite=True, pacing=20)
        assert description.end_of_candidates

    def test_formatted_lines(self) -> None:
        parameters = IceParameters(UFRAG, PWD, ("trickle", "ice2"), lite=True, pacing=5)
        assert format_parameters(parameters) == [
            "a=ice-lite",
            "a=ice-pacing:5",
            "a=ice-ufrag:8hhY",
            "a=ice-pwd:asd88fgpdd777uzjYhagZg",
            "a=ice-options:trickle ice2",
        ]

    def test_each_media_section_over_the_session(self) -> None:
        sdp = (
            f"v=0\na=ice-ufrag:sess\na=ice-pwd:{PWD}\na=ice-options:ice2\n"
            f"m=audio 9 UDP/TLS/RTP/SAVPF 0\na={TCP}\n"
            "m=video 9 UDP/TLS/RTP/SAVPF 96\na=ice-ufrag:vide\na=ice-options:trickle ice2\na=end-of-candidates\n"
        )
        audio, video = parse_description(sdp), parse_description(sdp, media=1)
        assert audio == IceDescription(IceParameters("sess", PWD, ("ice2",)), (parse_candidate(TCP),))
        assert video == IceDescription(IceParameters("vide", PWD, ("ice2", "trickle")), end_of_candidates=True)

    def test_a_prefix_may_be_missing(self) -> None:
        description = parse_description(f"ice-ufrag:{UFRAG}\nice-pwd:{PWD}\n{TCP}")
        assert description.candidates == (parse_candidate(TCP),)

    def test_unknown_kinds_of_candidates_are_ignored_and_told(self) -> None:
        unknown = "candidate:1 1 SCTP 1 192.0.2.1 9 typ host"
        description = parse_description(f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\na={unknown}\na={TCP}")
        assert description.candidates == (parse_candidate(TCP),)
        assert [error.field for error in description.ignored] == ["transport"]

    def test_malformed_candidates_are_errors(self) -> None:
        with pytest.raises(CandidateError, match=r"^port"):
            parse_description(f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\na=candidate:1 1 UDP 1 192.0.2.1 x typ host")

    @pytest.mark.parametrize(
        ("field", "text", "media"),
        [
            ("ice-ufrag", f"a=ice-pwd:{PWD}", 0),
            ("ice-pwd", f"a=ice-ufrag:{UFRAG}", 0),
            ("ice-ufrag", f"a=ice-ufrag:abc\na=ice-pwd:{PWD}", 0),
            ("ice-ufrag", f"a=ice-ufrag:{UFRAG}\na=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}", 0),
            ("ice-pacing", f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\na=ice-pacing:5.5", 0),
            ("ice-options", f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\na=ice-options:é", 0),
            ("m", f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\nm=audio", 1),
            ("m", f"a=ice-ufrag:{UFRAG}\na=ice-pwd:{PWD}\nm=audio", -1),
        ],
    )
    def test_malformed_parameters_name_the_attribute(self, field: str, text: str, media: int) -> None:
        with pytest.raises(ParametersError) as error:
            parse_description(text, media=media)
        assert error.value.field == field

    def test_a_long_ufrag_is_accepted_but_not_sent(self) -> None:
        received: Any = parse_description(f"a=ice-ufrag:{'a' * 256}\na=ice-pwd:{PWD}").parameters
        with pytest.raises(ParametersError, match="ice-ufrag has more than 32"):
            format_parameters(received)
