"""Bad policy files: every problem with file, line, column and key, and what would be right."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from candidates.policy import Policy, PolicyError, Problem, policy_of
from candidates.policy.document import LOADER, MAX_CHARACTERS, Loader, read_document
from tests.policy_texts import ENVIRON, complaint, load, problems, read_file

LOADERS: list[Loader] = [yaml.SafeLoader, LOADER]


def test_every_problem_is_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
transprots: [udp]
timeouts:
  rto: 50ms
  idle: -1
consent: {enabled: 1}
pacing: {ta: 0.001}
"""
    assert problems(text) == [
        (1, 1, "transprots"),
        (3, 8, "timeouts.rto"),
        (4, 9, "timeouts.idle"),
        (5, 20, "consent.enabled"),
        (6, 14, "pacing.ta"),
    ]
    assert complaint(text).splitlines()[:3] == [
        "p.yaml:1:1: transprots: unknown key; did you mean 'transports'?",
        "p.yaml:3:8: timeouts.rto: not a number; write a number of seconds, such as 0.5",
        "p.yaml:4:9: timeouts.idle: -1 is out of range; write a number of seconds greater than 0, such as 10",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("xyzzy: 1", "p.yaml:1:1: xyzzy: unknown key; known here: transports, candidate_types, tcp_types"),
        ("timeouts: {foo: 1}", "p.yaml:1:12: timeouts.foo: unknown key; known here: rto, rc, rm"),
        ("Transports: [udp]", "p.yaml:1:1: Transports: unknown key; did you mean 'transports'?"),
        ("remote: {deny: [{typ: host}]}", "remote.deny[0].typ: unknown key; did you mean 'type'?"),
        ("preferences: {types: {udp: {hots: 1}}}", "preferences.types.udp.hots: unknown key; did you mean 'host'?"),
        ("transports: [sctp]", "p.yaml:1:14: transports[0]: unknown value 'sctp'; write udp or tcp"),
        ("transports: [upd]", "transports[0]: unknown value 'upd'; did you mean 'udp'? Known: udp, tcp"),
        ("transports: [17]", "transports[0]: not one of the known words; write udp or tcp"),
        ("transports: udp", "p.yaml:1:13: transports: not a list; write a list, such as [udp, tcp]"),
        ("servers: {}", "servers: not a list; write a list"),
        ("transports: [udp, udp]", "transports: 'udp' stands twice; name each value once"),
        ("interfaces:", "interfaces: nothing stands below it; write include, exclude, loopback"),
        ("consent: 5", "consent: not a mapping of keys; write enabled, interval, timeout below it"),
        ("[]", "p.yaml:1:1: not a mapping of keys; write transports, candidate_types"),
        ("interfaces: {loopback: yes}", "interfaces.loopback: not true or false; write true or false"),
        ("limits: {pairs: 1.5}", "limits.pairs: not a whole number; write a number, such as 100"),
        ("limits: {pairs: true}", "limits.pairs: not a whole number"),
        ("limits: {pairs: 0}", "limits.pairs: 0 is out of range; write a number of at least 1, such as 100"),
        ("limits: {connects_per_ip: 6}", "limits.connects_per_ip: 6 is out of range; write a number of at most 5"),
        ("limits: {receive_bytes: 1}", "limits.receive_bytes: 1 is out of range; write a number of bytes of at least"),
        ("limits: {pairs: 99999999999999999999}", "limits.pairs: not a whole number"),
        ("timeouts: {connect: true}", "timeouts.connect: not a number"),
        ("timeouts: {connect: .inf}", "timeouts.connect: not a finite number; write a number of seconds"),
        ("timeouts: {connect: .nan}", "timeouts.connect: "),
        ("timeouts: {rto: 0.1}", "timeouts.rto: 0.1 is out of range; write a number of seconds of at least 0.5"),
        ("preferences: {types: {udp: {host: 127}}}", "udp.host: 127 is out of range; write a number of at most 126"),
        ("preferences: {directions: {nat: {so: 8}}}", "directions.nat.so: 8 is out of range"),
        ("ports: {udp: 5-3}", 'ports.udp: the range 5-3 is empty; the first port is the lower one: "3-5"'),
        ("ports: {udp: 0-3}", "ports.udp: 0 is not a port"),
        ("ports: {udp: [1, 65536]}", "ports.udp: 65536 is not a port"),
        ("ports: {tcp: [1, 2, 3]}", "ports.tcp: not a range of ports"),
        ("ports: {tcp: [1, true]}", "ports.tcp: not a range of ports"),
        ("ports: {tcp: 40000}", 'ports.tcp: not a range of ports; write "first-last"'),
        (
            "addresses: {include: [10.0.0.1/8]}",
            "include[0]: '10.0.0.1/8' has bits set after its prefix; write \"10.0.0.0/8\"",
        ),
        ("addresses: {include: [10.0.0.0/33]}", "addresses.include[0]: '10.0.0.0/33' is not a CIDR block"),
        ("addresses: {exclude: [167772160]}", "addresses.exclude[0]: not a CIDR block"),
        ("interfaces: {include: ['']}", "interfaces.include[0]: not a pattern of interface names"),
        ("interfaces: {exclude: [5]}", "interfaces.exclude[0]: not a pattern of interface names"),
        (
            f"interfaces: {{exclude: [{'a, ' * 257}]}}",
            "interfaces.exclude: the list is too long; write at most 256 items",
        ),
        ("servers: [{}]", "p.yaml:1:11: servers[0].url: the key is missing; add it:"),
        (
            "servers: [stun:x]",
            "servers[0]: not a mapping of keys; write url, username, password, secret, credential_lifetime, tls below",
        ),
        ("relay: {lifetime: 0}", "relay.lifetime: 0 is out of range"),
        ("relay: {lifetime: 4294967296}", "relay.lifetime: 4294967296 is out of range"),
        ("relay: {even_port: 1}", "relay.even_port: not true or false"),
        ("servers: [{url: stuns:x, tls: {ca_file: 5}}]", "servers[0].tls.ca_file: not text; write text, in quotes"),
    ],
)
def test_a_problem_names_place_and_key_and_what_would_be_right(text: str, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("timeouts:\n\trto: 1", 2, 1, "YAML syntax"),
        ("transports: [udp", 1, None, "YAML syntax"),
        ("a: b: c", 1, 5, "YAML syntax: mapping values are not allowed"),
        ("a: 'b", 1, None, "YAML syntax"),
        ("a: !!python/object:os.system x", 1, 4, "a: a tag; quote text that begins with '!'"),
        ("a: *b", 1, 4, "a: an alias without an anchor before it; quote text that begins with '*'"),
        ("a: &a [*a]", 1, 8, "a[0]: an alias without an anchor before it"),
        ("<<: {a: 1}", 1, 1, "a merge key; repeat the keys"),
        ("? [a]\n: b", 1, 3, "a key that is no text"),
        ("&a b: 1", 1, 1, "an anchor on a key"),
        ("a: &a b\n*a : 1", 2, 1, "an alias as a key"),
        ("--- 1\n--- 2", 2, 1, "a second document; keep one document in a file"),
        ("a: 1\nb: \x00", 2, 4, "the character '\\x00' is not allowed in YAML"),
        ("\ud800", 1, 1, "the character '\\ud800' is not allowed in YAML"),
        ("#" * (MAX_CHARACTERS + 1), 1, 1, "a policy has at most 1048576"),
        ("[" * 100_000, 1, 33, "the nesting is too deep; at most 32 levels are read"),
        ("- " * 100, 1, 65, "the nesting is too deep"),
        ("[" + "1," * 60_000 + "]", 1, None, "the policy is too large"),
    ],
)
def test_unreadable_yaml(loader: Loader, text: str, line: int, column: int | None, expected: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_document(text, "p.yaml", loader=loader)
    problem = caught.value.problems[-1]
    assert expected in str(problem)
    if column is not None:
        assert (problem.line, problem.column) == (line, column)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_billion_laughs_is_refused_early(loader: Loader) -> None:
    text = "a0: &a0 [lol, lol]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(30))
    with pytest.raises(PolicyError) as caught:
        read_document(text, "p.yaml", loader=loader)
    (problem,) = caught.value.problems
    assert "too large" in problem.wrong
    assert problem.line is not None
    assert problem.line < 20


def test_a_deep_chain_of_aliases_is_refused() -> None:
    text = "a0: &a0 [1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(100))
    assert "the nesting is too deep" in complaint(text)


def test_anchors_work() -> None:
    policy = load("addresses: {exclude: &blocks [192.0.2.0/24]}\nadvertise: {exclude: *blocks}\n")
    assert policy.advertise.exclude == policy.addresses.exclude != ()


def test_an_error_behind_an_alias_is_told_where_the_anchor_stands() -> None:
    assert problems("ports: {udp: &range 9-8, tcp: *range}") == [(1, 14, "ports.udp"), (1, 14, "ports.tcp")]


def test_duplicate_keys_are_errors_beside_others() -> None:
    text = "lite: false\nlimits:\n  pairs: 5\n  pairs: 6\nlite: 1\nfoo: 1\n"
    assert problems(text) == [(4, 3, "limits.pairs"), (5, 1, "lite"), (6, 1, "foo")]
    assert "p.yaml:5:1: lite: the key stands twice; keep one; the first is in line 1" in complaint(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null", "\ufeff# with a byte order mark\n"])
def test_an_empty_file_is_the_default(text: str) -> None:
    assert load(text) == Policy.default()


@pytest.mark.parametrize("text", ["1e1", "10", "+10", "10.", "1.0E+1"])
def test_numbers_as_yaml_1_2_writes_them(text: str) -> None:
    assert load(f"timeouts: {{connect: {text}}}").timeouts.connect == 10.0


def test_quoted_numbers_are_text() -> None:
    assert "timeouts.connect: not a number" in complaint("timeouts: {connect: '10'}")


def test_words_that_older_yaml_took_for_flags_are_text() -> None:
    assert load("interfaces: {include: [no, on]}").interfaces.include == ("no", "on")


def test_a_mapping_has_no_lines() -> None:
    with pytest.raises(PolicyError) as caught:
        policy_of({"timeouts": {"rto": 10**400, "rc": -1}}, source="settings", environ={}, read_file=read_file)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (None, "timeouts.rto"),
        (None, "timeouts.rc"),
    ]
    assert "settings: timeouts.rc: -1 is out of range" in str(caught.value)


def test_a_mapping_with_keys_that_are_no_text() -> None:
    with pytest.raises(PolicyError, match=r"policy: limits\[5\]: Keys should be strings; write keys as text"):
        policy_of({"limits": {5: 5}}, environ={}, read_file=read_file)


def test_a_mapping_loads_as_its_text_does() -> None:
    server = {"url": "turn:turn.example.org", "username": "${TURN_USER}", "password": {"file": "/run/secrets/turn"}}
    mapping = {"transports": ["udp"], "servers": [server]}
    assert policy_of(mapping, environ=ENVIRON, read_file=read_file) == load(yaml.safe_dump(mapping))


_LINES = """\
transports: [udp]
transports:
  - tcp
interfaces:
  include: [lo]
  vpn: no
ports: {udp: 1-2}
remote: {deny: [{}]}
servers:
  - url: turn:x
    password: ${TURN_PASSWORD}
&a [1]
x: *a
limits: {pairs: -1}
? x
!t y
'
"}
- - -
\t
addresses: {exclude: [::/0, 0.0.0.0/0]}
lite: true
tcp_types: []
preferences: {types: {udp: {srflx: 120}}}""".splitlines()


@given(st.lists(st.sampled_from(_LINES) | st.text(max_size=20), max_size=12).map("\n".join))
def test_any_text_is_a_policy_or_a_policy_error_with_places(text: str) -> None:
    """Invariant: never another exception, and every problem has its line and column."""
    found: tuple[Problem, ...] = ()
    try:
        policy = load(text)
        assert policy == policy.revised()
    except PolicyError as error:
        found = error.problems
    assert all(problem.line and problem.column and problem.wrong and problem.right for problem in found)
