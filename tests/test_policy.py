"""The policy's defaults, rulings and explanations."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from candidates import priority
from candidates.candidate import Candidate, CandidateType, InterfaceAddress, TcpType, Transport, TransportAddress
from candidates.pairing import Refusal
from candidates.policy import VPN_NAMES, AddressFamily, Policy, Ruling
from candidates.policy.explanation import PAIRING_RULES
from tests.policy_texts import load


def candidate(
    host: str = "198.51.100.7",
    type: CandidateType = CandidateType.HOST,  # noqa: A002 - the RFC's word
    tcptype: TcpType | None = None,
    component: int = 1,
) -> Candidate:
    transport = Transport.TCP if tcptype else Transport.UDP
    return Candidate("1", component, transport, 1, TransportAddress(host, 5000), type, tcptype=tcptype)


def test_the_default_is_one_object_and_cannot_be_changed() -> None:
    policy = Policy.default()
    assert policy is Policy.default()
    assert policy == Policy()
    assert hash(policy) == hash(Policy())
    with pytest.raises(ValidationError):
        policy.lite = True
    with pytest.raises(ValidationError):
        policy.limits.pairs = 1


def test_a_revised_policy_keeps_what_was_written_and_is_checked() -> None:
    policy = load(
        "lite: false\nservers: [{url: 'turn:x', username: u, password: p}]\nports: {udp: 1-2}\n"
        "addresses: {exclude: [10.0.0.0/8]}"
    )
    revised = policy.revised(transports=["tcp"], ports={"tcp": "7-9"}, limits={"pairs": 7})
    assert (revised.servers, revised.addresses) == (policy.servers, policy.addresses)
    assert (revised.transports, revised.ports.tcp, revised.limits.pairs) == ((Transport.TCP,), (7, 9), 7)
    assert policy.transports == Policy.default().transports
    with pytest.raises(ValidationError, match="tcp_types: transports has no tcp"):
        policy.revised(transports=["udp"], ports={}, tcp_types=["so"])
    assert Policy.default().revised() == Policy.default()


def test_the_defaults_that_the_core_reads() -> None:
    policy = Policy.default()
    assert policy.transports == (Transport.UDP, Transport.TCP)
    assert policy.candidate_types == tuple(CandidateType)
    assert policy.tcp_types == tuple(TcpType)
    assert policy.address_families == (AddressFamily.IPV4, AddressFamily.IPV6)
    assert (policy.ports.udp, policy.ports.tcp, policy.servers, policy.lite) == (None, None, (), False)
    assert policy.pacing.model_dump() == {"ta": 0.05, "proposed": 0.005, "strict": False}
    assert policy.consent.model_dump() == {"enabled": True, "interval": 5.0, "timeout": 30.0}
    assert policy.timeouts.model_dump() == {
        "rto": 0.5,
        "rc": 7,
        "rm": 16,
        "tcp_check": 39.5,
        "connect": 15.0,
        "accept_wait": 1.0,
        "idle": 10.0,
        "linger": 3.0,
        "gather": 5.0,
        "relay": 15.0,
        "patience": 39.5,
        "reopen": 30.0,
        "keepalive": 15.0,
    }
    assert policy.simultaneous_open.model_dump() == {
        "redials": 60,
        "rate": 12.0,
        "burst": 4,
        "fast_refusal": 0.02,
        "fresh_port_after": 6,
        "fresh_ports": 1,
        "predict_ports": 0,
    }
    assert policy.limits.receive_bytes == 4 * 2**20


def test_the_ranking_is_that_of_the_priorities() -> None:
    assert Policy.default().preferences.ranking == priority.DEFAULT
    policy = load("preferences: {types: {udp: {relay: 7}}, directions: {direct: {so: 7}}}")
    ranking = policy.preferences.ranking
    assert ranking is policy.preferences.ranking
    assert ranking.type_preference(CandidateType.RELAY, Transport.UDP) == 7
    assert ranking.direction_preference(CandidateType.HOST, TcpType.SO) == 7
    assert policy == load("preferences: {types: {udp: {relay: 7}}, directions: {direct: {so: 7}}}")


def test_interfaces_are_ranked_by_their_first_pattern() -> None:
    preferences = load("preferences: {interfaces: [eth1, 'eth*', 'wl*']}").preferences
    assert [preferences.interface_rank(name) for name in ("eth1", "eth0", "wlan0", "usb0")] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("text", "interface", "host", "expected"),
    [
        ("", "eth0", "192.0.2.1", Ruling(True, "addresses.include: empty, all are included")),
        ("", "lo", "127.0.0.1", Ruling(False, "interfaces.loopback: false")),
        ("", "lo", "::1", Ruling(False, "interfaces.loopback: false")),
        ("interfaces: {loopback: true}", "lo", "::1", Ruling(True, "addresses.include: empty, all are included")),
        ("", "eth0", "fe80::1%eth0", Ruling(False, "interfaces.link_local: false")),
        ("", "eth0", "169.254.7.7", Ruling(False, "interfaces.link_local: false")),
        (
            "interfaces: {link_local: true}\naddresses: {include: ['fe80::/10']}",
            "eth0",
            "fe80::1%eth0",
            Ruling(True, "addresses.include[0]: fe80::/10"),
        ),
        (
            "interfaces: {exclude: [veth*, 'docker*']}",
            "docker0",
            "172.17.0.1",
            Ruling(False, "interfaces.exclude[1]: docker*"),
        ),
        (
            "interfaces: {include: ['eth*'], exclude: [eth1]}",
            "eth1",
            "192.0.2.1",
            Ruling(False, "interfaces.exclude[0]: eth1"),
        ),
        (
            "interfaces: {include: ['eth[01]']}",
            "eth2",
            "192.0.2.1",
            Ruling(False, "interfaces.include: no pattern matches eth2"),
        ),
        (
            "interfaces: {include: ['eth?']}",
            "Eth0",
            "192.0.2.1",
            Ruling(False, "interfaces.include: no pattern matches Eth0"),
        ),
        (
            "interfaces: {vpn: false}",
            "wg0",
            "10.0.0.1",
            Ruling(False, "interfaces.vpn: false; wg0 looks like a VPN's (wg*)"),
        ),
        (
            "interfaces: {default_route_only: true}",
            "eth0",
            "192.0.2.1",
            Ruling(False, "interfaces.default_route_only: true; no default route leaves by this address"),
        ),
        (
            "address_families: [ipv6]",
            "eth0",
            "192.0.2.1",
            Ruling(False, "address_families: ipv4 is not among them"),
        ),
        (
            "addresses: {include: [192.0.2.0/24], exclude: [192.0.2.1]}",
            "eth0",
            "192.0.2.1",
            Ruling(False, "addresses.exclude[0]: 192.0.2.1/32"),
        ),
        (
            "addresses: {include: [192.0.2.0/24]}",
            "eth0",
            "2001:db8::1",
            Ruling(False, "addresses.include: no block holds 2001:db8::1"),
        ),
    ],
)
def test_rulings_on_addresses(text: str, interface: str, host: str, expected: Ruling) -> None:
    ruling = load(text).keeps_address(InterfaceAddress(interface, host))
    assert ruling == expected
    assert bool(ruling) is ruling.kept


def test_default_route_only_keeps_what_a_default_route_leaves_by() -> None:
    policy = load("interfaces: {default_route_only: true}")
    assert policy.keeps_address(InterfaceAddress("eth0", "192.0.2.1", default_route=True)).kept


@pytest.mark.parametrize("glob", VPN_NAMES)
def test_vpn_like_names_are_kept_unless_the_policy_says_no(glob: str) -> None:
    address = InterfaceAddress(glob.replace("*", "7"), "10.0.0.1")
    assert Policy.default().keeps_address(address).kept
    assert not load("interfaces: {vpn: false}").keeps_address(address).kept


@pytest.mark.parametrize("name", ["eth0", "wlan0", "enp3s0", "w0", "vtun0", "en0"])
def test_other_names_are_not_vpn_like(name: str) -> None:
    assert load("interfaces: {vpn: false}").keeps_address(InterfaceAddress(name, "10.0.0.1")).kept


RELAY_ONLY = "candidate_types: [relay]\nservers: [{url: 'turn:x', username: u, password: p}]"


@pytest.mark.parametrize(
    ("text", "subject", "expected"),
    [
        ("", candidate(), Ruling(True, "candidate_types: host")),
        ("transports: [tcp]", candidate(), Ruling(False, "transports: udp is not among them")),
        (RELAY_ONLY, candidate(), Ruling(False, "candidate_types: host is not among them")),
        (RELAY_ONLY, candidate(type=CandidateType.RELAY), Ruling(True, "candidate_types: relay")),
        ("tcp_types: [so]", candidate(tcptype=TcpType.ACTIVE), Ruling(False, "tcp_types: active is not among them")),
        ("tcp_types: [so]", candidate(tcptype=TcpType.SO), Ruling(True, "candidate_types: host")),
        ("address_families: [ipv6]", candidate(), Ruling(False, "address_families: ipv4 is not among them")),
        ("address_families: [ipv6]", candidate("x.local"), Ruling(True, "candidate_types: host")),
    ],
)
def test_rulings_on_local_candidates(text: str, subject: Candidate, expected: Ruling) -> None:
    assert load(text).keeps_local(subject) == expected


@pytest.mark.parametrize(
    ("keys", "subject", "expected"),
    [
        ("", candidate(), Ruling(True, "advertise.candidate_types: host")),
        ("transports: [tcp]", candidate(), Ruling(False, "advertise.transports: udp is not among them")),
        (
            "candidate_types: [relay, srflx]",
            candidate(),
            Ruling(False, "advertise.candidate_types: host is not among them"),
        ),
        (
            "tcp_types: [so]",
            candidate(tcptype=TcpType.PASSIVE),
            Ruling(False, "advertise.tcp_types: passive is not among them"),
        ),
        (
            "address_families: [ipv6]",
            candidate(),
            Ruling(False, "advertise.address_families: ipv4 is not among them"),
        ),
        (
            "exclude: [10.0.0.0/8, 198.51.100.0/24]",
            candidate(),
            Ruling(False, "advertise.exclude[1]: 198.51.100.0/24"),
        ),
        ("exclude: [10.0.0.0/8]", candidate("x.local"), Ruling(True, "advertise.candidate_types: host")),
    ],
)
def test_what_is_told_the_peer_is_apart_from_what_is_gathered(keys: str, subject: Candidate, expected: Ruling) -> None:
    policy = load(f"advertise: {{{keys}}}")
    assert policy.advertises(subject) == expected
    assert policy.keeps_local(subject).kept


@pytest.mark.parametrize(
    ("rules", "subject", "expected"),
    [
        ("", candidate(), Ruling(True, "remote.allow: empty, all are allowed")),
        ("deny: [{cidr: 198.51.100.0/24}]", candidate(), Ruling(False, "remote.deny[0]: cidr 198.51.100.0/24")),
        (
            "deny: [{cidr: 198.51.100.0/24}]",
            candidate("192.0.2.1"),
            Ruling(True, "remote.allow: empty, all are allowed"),
        ),
        ("deny: [{cidr: 198.51.100.0/24}]", candidate("x.local"), Ruling(True, "remote.allow: empty, all are allowed")),
        (
            "deny: [{type: relay}, {type: host, transport: udp}]",
            candidate(),
            Ruling(False, "remote.deny[1]: type host, transport udp"),
        ),
        (
            "deny: [{type: host, transport: tcp}], allow: [{type: srflx}, {cidr: 198.51.100.7}]",
            candidate(),
            Ruling(True, "remote.allow[1]: cidr 198.51.100.7/32"),
        ),
        ("allow: [{transport: tcp}]", candidate(), Ruling(False, "remote.allow: no rule matches")),
        ("allow: [{cidr: 10.0.0.0/8}]", candidate("x.local"), Ruling(False, "remote.allow: no rule matches")),
        (
            "allow: [{type: host}], deny: [{cidr: '2001:db8::/32'}]",
            candidate("2001:db8::1"),
            Ruling(False, "remote.deny[0]: cidr 2001:db8::/32"),
        ),
    ],
)
def test_rulings_on_remote_candidates(rules: str, subject: Candidate, expected: Ruling) -> None:
    assert load(f"remote: {{{rules}}}").keeps_remote(subject) == expected


def test_a_local_candidate_is_explained() -> None:
    policy = load("advertise: {candidate_types: [srflx]}")
    explanation = policy.explain(address=InterfaceAddress("eth0", "198.51.100.7"), local=candidate(tcptype=TcpType.SO))
    assert explanation.kept
    assert str(explanation) == (
        "198.51.100.7 on eth0, local tcp host so 198.51.100.7:5000: kept\n"
        "  address: kept by addresses.include: empty, all are included\n"
        "  gather: kept by candidate_types: host\n"
        "  advertise: removed by advertise.candidate_types: host is not among them"
    )


def test_a_pair_is_explained() -> None:
    policy = load("remote: {deny: [{type: relay}]}")
    explanation = policy.explain(local=candidate(), remote=candidate("192.0.2.1", CandidateType.RELAY))
    assert not explanation.kept
    assert str(explanation).splitlines()[0] == (
        "local udp host 198.51.100.7:5000, remote udp relay 192.0.2.1:5000: removed"
    )
    assert [str(step.ruling) for step in explanation.steps][2:] == [
        "removed by remote.deny[0]: type relay",
        "kept by pairing: the candidates fit together",
    ]


@pytest.mark.parametrize(
    ("local", "remote", "expected"),
    [
        (candidate(), candidate(component=2), "component: the candidates belong to different components"),
        (candidate(), candidate(tcptype=TcpType.SO), "transport: one candidate is UDP and the other TCP"),
        (candidate(), candidate("2001:db8::1"), "family: one address is IPv4 and the other IPv6"),
        (
            candidate(tcptype=TcpType.PASSIVE),
            candidate(tcptype=TcpType.ACTIVE),
            "local-passive: a local passive candidate waits for the peer to connect",
        ),
    ],
)
def test_a_refused_pair_is_explained(local: Candidate, remote: Candidate, expected: str) -> None:
    explanation = Policy.default().explain(local=local, remote=remote)
    assert not explanation.kept
    assert explanation.steps[-1].ruling.rule.startswith(expected)


def test_every_refusal_has_words() -> None:
    assert set(PAIRING_RULES) == set(Refusal)
