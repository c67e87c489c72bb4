"""The same thousands of inputs to ice-tcp and to aioice: what they take differently, a table explains."""

from __future__ import annotations

import ipaddress
from typing import Any, Final, TypeAlias

import aioice
import aioice.candidate
import aioice.ice
import aioice.stun
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candidates.candidate import Candidate, CandidateError, CandidateType, Transport, TransportAddress
from candidates.pairing import form_pairs
from candidates.priority import Preferences, TypePreferences, candidate_priority, pair_priority
from candidates.sdp import parse_candidate
from ice_tcp import stun
from interop.conformance.stun import UNKNOWN_OPTIONAL, UNKNOWN_REQUIRED, Attr, Draft, Kind, error_value, xor_address
from tests.conformance.differences import CANDIDATES, MESSAGES, Difference, Side

THOUSANDS: Final = settings(max_examples=2000, derandomize=True, deadline=None)
HUNDREDS: Final = settings(THOUSANDS, max_examples=500)

Result: TypeAlias = tuple[Any, ...] | None
"""What was read, in the same terms for both; None if it was refused."""

PASSWORD: Final = "theSharedPassword"


def explained(rows: tuple[Difference, ...], given_: bytes, ours: Result, theirs: Result) -> bool:
    return ours == theirs or any(row.explains(given_) for row in rows)


# Candidates


def our_candidate(line: bytes) -> Result:
    try:
        candidate = parse_candidate(line.decode("utf-8", "replace"))
    except CandidateError:
        return None
    related = candidate.related_address
    return (
        *(candidate.foundation, candidate.component, candidate.transport.value, candidate.priority),
        *(candidate.address.host, candidate.address.port, candidate.type.value),
        *((related.host, related.port) if related is not None else (None, None)),
        *(candidate.tcptype.value if candidate.tcptype is not None else None, candidate.generation),
    )


def their_candidate(line: bytes) -> Result:
    try:
        candidate = aioice.Candidate.from_sdp(line.decode("utf-8", "replace"))
    except ValueError:
        return None
    return (
        *(candidate.foundation, candidate.component, candidate.transport.lower(), candidate.priority),
        *(_canonical(candidate.host), candidate.port, candidate.type),
        *(_canonical(candidate.related_address), candidate.related_port, candidate.tcptype, candidate.generation),
    )


def _canonical(host: str | None) -> str | None:
    """An address may be spelled in more ways than one."""
    try:
        return None if host is None else str(ipaddress.ip_address(host))
    except ValueError:
        return host


NUMBERS: Final = st.one_of(
    st.integers(0, 70_000).map(str),
    st.sampled_from(["0", "1", "256", "257", "2147483647", "2147483648", "-1", "+5", "1_0"]),
)
HOSTS: Final = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["::", "2001:DB8::1", "::ffff:192.0.2.1", "300.1.1.1", "peer.local", "example.org", "x y"]),
)
EXTENSIONS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("generation"), NUMBERS),
        st.tuples(st.sampled_from(["raddr", "RADDR"]), HOSTS),
        st.tuples(st.just("rport"), NUMBERS),
        st.tuples(st.just("tcptype"), st.sampled_from(["active", "passive", "so", "SO", "actpass"])),
        st.tuples(st.sampled_from(["ufrag", "network-id", "network-cost", "x-other", "a b"]), NUMBERS),
    ),
    max_size=4,
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Candidates, most of them right, some with something odd at one place or other."""
    fields = [
        draw(st.one_of(st.from_regex(r"[A-Za-z0-9+/]{1,32}\Z"), st.sampled_from(["a-b", "f" * 33, "\u00e9", ""]))),
        draw(st.one_of(st.integers(1, 256).map(str), NUMBERS)),
        draw(st.sampled_from(["UDP", "udp", "TCP", "tcp", "SCTP"])),
        draw(st.one_of(st.integers(1, 2**31 - 1).map(str), NUMBERS)),
        draw(HOSTS),
        draw(st.one_of(st.integers(1, 65535).map(str), NUMBERS)),
        draw(st.sampled_from(["typ"] * 9 + ["TYP", "type"])),
        draw(st.sampled_from(["host", "srflx", "prflx", "relay", "HOST", "dream"])),
    ]
    for name, value in draw(EXTENSIONS):
        fields += [name, value]
    fields = fields[: draw(st.sampled_from([len(fields)] * 9 + [draw(st.integers(0, len(fields)))]))]
    return draw(st.sampled_from([" "] * 19 + ["  "])).join(fields).encode()


@THOUSANDS
@given(lines())
def test_candidates_are_read_alike_or_a_row_says_why(line: bytes) -> None:
    ours, theirs = our_candidate(line), their_candidate(line)
    assert explained(CANDIDATES, line, ours, theirs), (line, ours, theirs)


# Messages


def our_message(data: bytes) -> Result:
    try:
        message = stun.decode(data)
        return (
            *(message.message_class.name.replace("SUCCESS", "RESPONSE"), message.method, message.transaction_id),
            *(
                message.username,
                message.priority,
                message.use_candidate,
                message.ice_controlled,
                message.ice_controlling,
            ),
            *(message.mapped_address, message.xor_mapped_address, message.software, message.realm),
            message.error_code and tuple(message.error_code),
            message.verify(stun.IntegrityKey.short_term(PASSWORD)),
        )
    except stun.DecodeError:
        return None


def their_message(data: bytes) -> Result:
    try:
        message = aioice.stun.parse_message(data)
        verified = message.check_message_integrity(PASSWORD.encode())
    except Exception:  # noqa: BLE001 - whatever it is, the message was not taken
        return None
    attributes = message.attributes
    names = ("MAPPED-ADDRESS", "XOR-MAPPED-ADDRESS", "SOFTWARE", "REALM", "ERROR-CODE")
    return (
        *(message.message_class.name, int(message.message_method), message.transaction_id),
        *(attributes.get("USERNAME"), attributes.get("PRIORITY"), "USE-CANDIDATE" in attributes),
        *(attributes.get("ICE-CONTROLLED"), attributes.get("ICE-CONTROLLING")),
        *(attributes.get(name) for name in names),
        verified,
    )


ATTRIBUTES: Final = st.one_of(
    st.tuples(st.just(Attr.USERNAME), st.text(max_size=20).map(str.encode)),
    st.tuples(st.just(Attr.PRIORITY), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(Attr.USE_CANDIDATE), st.just(b"")),
    st.tuples(st.sampled_from([Attr.ICE_CONTROLLED, Attr.ICE_CONTROLLING]), st.binary(min_size=8, max_size=8)),
    st.tuples(
        st.just(Attr.XOR_MAPPED_ADDRESS),
        st.tuples(st.ip_addresses().map(str), st.integers(0, 65535)).map(
            lambda address: xor_address(address, b"i" * 12)
        ),
    ),
    st.tuples(st.just(Attr.ERROR_CODE), st.integers(300, 699).map(lambda code: error_value(code, "because"))),
    st.tuples(st.sampled_from([Attr.SOFTWARE, Attr.REALM]), st.text(max_size=9).map(str.encode)),
    st.tuples(st.sampled_from([UNKNOWN_OPTIONAL, UNKNOWN_REQUIRED]), st.binary(max_size=9)),
    st.tuples(st.sampled_from(list(Attr)), st.binary(max_size=24)),
)


SEALS: Final = ("", "integrity", "integrity fingerprint", "fingerprint", "sha256", "spoiled fingerprint")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages, most of them right, some with something odd in the header, in an attribute, or at the end."""
    method = draw(st.sampled_from([1] * 9 + [3, 0x0F3]))
    draft = Draft(draw(st.sampled_from(list(Kind))), b"i" * 12, method=method)
    for type_, value in draw(st.lists(ATTRIBUTES, max_size=5)):
        draft.add(type_, value)
    seals = draw(
        st.sampled_from(["", "integrity", "integrity fingerprint", "fingerprint", "sha256", "spoiled fingerprint"])
    )
    for seal in seals.split():
        match seal:
            case "integrity":
                draft.integrity(PASSWORD)
            case "spoiled":
                draft.integrity(PASSWORD, spoiled=True)
            case "sha256":
                draft.integrity_sha256(PASSWORD)
            case _:
                draft.fingerprint(spoiled=draw(st.sampled_from([False] * 5 + [True])))
    if draw(st.sampled_from([False] * 9 + [True])):
        draft.add(*draw(ATTRIBUTES))
    data = bytearray(bytes(draft))
    if draw(st.sampled_from([False] * 4 + [True])):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    end = draw(st.sampled_from([len(data)] * 9 + [draw(st.integers(0, len(data)))]))
    return bytes(data[:end])


@THOUSANDS
@given(messages())
def test_messages_are_read_alike_or_a_row_says_why(data: bytes) -> None:
    ours, theirs = our_message(data), their_message(data)
    assert explained(MESSAGES, data, ours, theirs), (data.hex(), ours, theirs)


# Priorities and pairs

PRIORITIES: Final = st.one_of(st.integers(1, 2**31 - 1), st.integers(1, 4))
AS_RECOMMENDED: Final = Preferences(udp=TypePreferences(host=126, prflx=110, srflx=100, relay=0))


@HUNDREDS
@given(st.sampled_from(CandidateType), st.integers(1, 256), st.integers(0, 65534))
def test_candidates_have_the_same_priority(kind: CandidateType, component: int, rank: int) -> None:
    """Given the type preferences of RFC 8445 s5.1.2.2, where our default has 1 for relayed candidates over UDP."""
    ours = candidate_priority(
        type=kind, transport=Transport.UDP, tcptype=None, component=component, rank=rank, preferences=AS_RECOMMENDED
    )
    assert ours == aioice.candidate.candidate_priority(component, kind.value, 65535 - rank)


def theirs_of(candidate: Candidate) -> aioice.Candidate:
    return aioice.Candidate(
        foundation=candidate.foundation,
        component=candidate.component,
        transport=candidate.transport.value,
        priority=candidate.priority,
        host=candidate.address.host,
        port=candidate.address.port,
        type=candidate.type.value,
    )


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    """UDP candidates with addresses of their own."""
    networks = st.sampled_from(["198.51.100.0/24", "2001:db8::/32"])
    addresses = draw(st.lists(networks.flatmap(lambda each: st.ip_addresses(network=each)), min_size=1, max_size=6))
    return [
        Candidate(
            foundation=str(n),
            component=draw(st.integers(1, 2)),
            transport=Transport.UDP,
            priority=draw(PRIORITIES),
            address=TransportAddress(str(address), 5000 + n),
            type=draw(st.sampled_from(CandidateType)),
        )
        for n, address in enumerate(addresses)
    ]


@HUNDREDS
@given(PRIORITIES, PRIORITIES, st.booleans())
def test_pairs_have_the_same_priority(local: int, remote: int, controlling: bool) -> None:
    ours = pair_priority(local, remote) if controlling else pair_priority(remote, local)
    one, other = (theirs_of(_candidate(priority)) for priority in (local, remote))
    assert ours == aioice.ice.candidate_pair_priority(one, other, controlling)


def _candidate(priority: int) -> Candidate:
    return Candidate("1", 1, Transport.UDP, priority, TransportAddress("192.0.2.1", 5000), CandidateType.HOST)


@HUNDREDS
@given(candidate_lists(), candidate_lists(), st.booleans())
def test_check_lists_have_the_same_order(local: list[Candidate], remote: list[Candidate], controlling: bool) -> None:
    """Of pairs with equal priorities the order is arbitrary (RFC 8445 s6.1.2.3)."""
    ours = form_pairs([(each, each.address) for each in local], remote, controlling=controlling)

    class Protocol:
        def __init__(self, candidate: Candidate) -> None:
            self.local_candidate = theirs_of(candidate)

    pairs = [
        aioice.ice.CandidatePair(Protocol(one), theirs_of(other))  # type: ignore[arg-type]
        for one in local
        for other in remote
        if theirs_of(one).can_pair_with(theirs_of(other))
    ]
    aioice.ice.sort_candidate_pairs(pairs, controlling)
    priorities = [
        aioice.ice.candidate_pair_priority(pair.local_candidate, pair.remote_candidate, controlling) for pair in pairs
    ]
    assert [pair.priority for pair in ours.pairs] == priorities
    assert {(str(pair.local.address), str(pair.remote.address)) for pair in ours.pairs} == {
        (_address(pair.local_candidate), _address(pair.remote_candidate)) for pair in pairs
    }


def _address(candidate: aioice.Candidate) -> str:
    return str(TransportAddress(candidate.host, candidate.port))


# The table


@pytest.mark.parametrize("row", CANDIDATES, ids=lambda row: row.name)
def test_each_row_of_candidates_tells_a_real_difference(row: Difference) -> None:
    assert row.explains(row.example)
    assert our_candidate(row.example) != their_candidate(row.example)


@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: row.name)
def test_each_row_of_messages_tells_a_real_difference(row: Difference) -> None:
    assert row.explains(row.example)
    assert our_message(row.example) != their_message(row.example)


@pytest.mark.parametrize("row", CANDIDATES + MESSAGES, ids=lambda row: row.name)
def test_no_example_needs_more_than_its_row(row: Difference) -> None:
    """So each row is needed."""
    rows = CANDIDATES if row in CANDIDATES else MESSAGES
    assert [each.name for each in rows if each.explains(row.example)] == [row.name]


@pytest.mark.parametrize("row", CANDIDATES + MESSAGES, ids=lambda row: row.name)
def test_each_row_cites_its_sentence(row: Difference) -> None:
    assert len(row.sentence) >= 15
    assert row.right in Side
