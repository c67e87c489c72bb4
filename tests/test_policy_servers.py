"""STUN and TURN URIs (RFC 7064, RFC 7065), credentials and their secrecy."""

from __future__ import annotations

import json
import pickle
import traceback

import pytest
from pydantic import SecretStr, ValidationError

from candidates.candidate import Transport, TransportAddress
from candidates.policy import Policy, PolicyError, Scheme, ServerPolicy, ServerUri, parse_server_uri, policy_schema
from tests.policy_texts import complaint, load

SECRET = "Tr0ub4dor"


@pytest.mark.parametrize(
    ("text", "secure", "host", "port", "transport"),
    [
        # RFC 7064 Appendix A
        ("stun:example.org", False, "example.org", 3478, None),
        ("stuns:example.org", True, "example.org", 5349, Transport.TCP),
        ("stun:example.org:8000", False, "example.org", 8000, None),
        # RFC 7065 Appendix A
        ("turn:example.org", False, "example.org", 3478, None),
        ("turns:example.org", True, "example.org", 5349, Transport.TCP),
        ("turn:example.org:8000", False, "example.org", 8000, None),
        ("turn:example.org?transport=udp", False, "example.org", 3478, Transport.UDP),
        ("turn:example.org?transport=tcp", False, "example.org", 3478, Transport.TCP),
        ("turns:example.org?transport=tcp", True, "example.org", 5349, Transport.TCP),
        # RFC 7350 s4.6.1
        ("turns:example.org?transport=udp", True, "example.org", 5349, Transport.UDP),
        # the grammar's corners: RFC 3986 s3.1 (case), s3.2.2 (literals), s3.2.3 (empty port)
        ("TURN:Example.ORG?transport=TCP", False, "example.org", 3478, Transport.TCP),
        ("stun:192.0.2.1:19302", False, "192.0.2.1", 19302, None),
        ("stun:[2001:db8::7]", False, "2001:db8::7", 3478, None),
        ("turns:[2001:DB8:0::7]:443", True, "2001:db8::7", 443, Transport.TCP),
        ("stun:example.org:", False, "example.org", 3478, None),
    ],
)
def test_server_uris(text: str, secure: bool, host: str, port: int, transport: Transport | None) -> None:
    uri = parse_server_uri(text)
    scheme, address = Scheme(text.partition(":")[0].lower()), TransportAddress(host, port)
    assert uri == ServerUri(scheme, address, transport, has_port=f":{port}" in text)
    assert uri.scheme.secure is secure
    assert parse_server_uri(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not the URI of a STUN or TURN server"),
        ("example.org", "not the URI of a STUN or TURN server"),
        ("example.org:3478", "'example.org' is not a scheme of STUN or TURN"),
        ("http:example.org", "'http' is not a scheme of STUN or TURN; write stun, stuns, turn or turns"),
        ("turn://example.org", 'the URI of a server has no slashes; write "turn:host"'),
        ("turn:user:pass@example.org", "holds no user name or password; use the keys username and password"),
        ("stun:", "not the URI"),
        ("stun:exa mple.org", "not the URI"),
        ("stun:example.org\n", "not the URI"),
        ("stun:example.org:0", "0 is not a port"),
        ("stun:example.org:65536", "65536 is not a port"),
        ("stun:example.org:1000000", "not the URI"),
        ("stun:example.org:x", "not the URI"),
        ("stun:2001:db8::7", "not the URI of a STUN or TURN server"),
        ("stun:[2001:db8::7", "not the URI"),
        ("stun:[192.0.2.1]", "not an IPv6 address"),
        ("stun:[::ffff:192.0.2.1]", "IPv4-mapped"),
        ("stun:[fe80::1%25eth0]", "not the URI"),
        ("stun:256.1.1.1", "neither an IP address nor a host name"),
        ("stun:-x-", "neither an IP address nor a host name"),
        ("stun:example.org?transport=udp", "a stun URI has no transport (RFC 7064 s3.1)"),
        ("turn:example.org?transport=sctp", "'sctp' is not a transport"),
        ("turn:example.org?transport=", "not the URI"),
        ("turn:example.org?ttl=5", "not the URI"),
    ],
)
def test_malformed_server_uris(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_server_uri(text)
    assert expected in str(caught.value)


def _server(text: str) -> ServerPolicy:
    (server,) = load(f"servers: [{{url: 'turn:turn.example.org', {text}}}]").servers
    return server


@pytest.mark.parametrize(
    ("written", "secret"),
    [
        ("plain", "plain"),
        ("'quoted: {}'", "quoted: {}"),
        ("'${TURN_PASSWORD}'", "s3cret"),
        ("'x${TURN_USER}-${TURN_PASSWORD}y'", "xalice-s3crety"),
        ("'$${TURN_PASSWORD}'", "${TURN_PASSWORD}"),
        ("$5$", "$5$"),
        ("{file: /run/secrets/turn}", "from-file"),
    ],
)
def test_credentials_come_from_the_file_the_environment_or_another_file(written: str, secret: str) -> None:
    server = _server(f"username: '${{TURN_USER}}', password: {written}")
    assert server.username == SecretStr("alice")
    assert server.password == SecretStr(secret)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${NOT_SET}", "the environment variable NOT_SET is not set; set NOT_SET, or use {file: PATH}"),
        ("'${NOT-A-NAME}'", 'a reference to the environment is malformed; write "${NAME}"'),
        ("'${TURN_USER'", "a reference to the environment is malformed"),
        ("${EMPTY}", "the credential is empty"),
        ("''", "the credential is empty"),
        ("5", 'not a credential; write text, "${NAME}" or {file: PATH}; quote numbers'),
        ("[a]", "not a credential"),
        ("{path: /x}", "not a credential"),
        ("{file: 5}", "not a credential"),
        ("{file: /nope}", "cannot read '/nope': No such file or directory; name a readable file"),
        ("{file: /run/secrets/latin-1}", "'/run/secrets/latin-1' is not UTF-8 text"),
        ("{file: /run/secrets/empty}", "the credential is empty"),
    ],
)
def test_missing_credentials_are_told_with_their_place(written: str, expected: str) -> None:
    text = f"servers:\n- url: turn:turn.example.org\n  username: alice\n  password: {written}\n"
    assert complaint(text).startswith(f"p.yaml:4:13: servers[0].password: {expected}")


def test_text_is_taken_as_it_stands_where_no_environment_is_given() -> None:
    server = ServerPolicy.model_validate({"url": "stun:x", "username": "u", "password": "${TURN_PASSWORD}"})
    assert server.password == SecretStr("${TURN_PASSWORD}")
    with pytest.raises(ValidationError, match="no file can be read here; load the policy with load_policy"):
        ServerPolicy.model_validate({"url": "stun:x", "username": {"file": "/run/secrets/turn"}})


def test_a_server_made_in_code() -> None:
    server = ServerPolicy(url=parse_server_uri("turns:x"), username=SecretStr("u"), password=SecretStr("p"))
    assert server == load("servers: [{url: 'turns:x', username: u, password: p}]").servers[0]
    assert server.relays


def test_a_shared_secret_is_read_as_other_credentials_are() -> None:
    server = _server("secret: '${TURN_PASSWORD}', credential_lifetime: 600.0")
    assert server.secret == SecretStr("s3cret")
    assert server.credential_lifetime == 600.0
    assert _server("secret: s").credential_lifetime == 86400.0


@pytest.mark.parametrize("key", ["username: u, password", "secret"])
def test_secrets_do_not_show_in_a_policy(key: str) -> None:
    policy = load(f"servers: [{{url: 'turn:x', {key}: {SECRET}}}]")
    shown = [repr(policy), str(policy), policy.model_dump_json(), repr(policy.model_dump()), str(policy.explain())]
    shown += [json.dumps(policy_schema()), repr(policy.servers[0])]
    shown += [str(policy.servers[0].password), str(policy.servers[0].secret)]
    assert [text for text in shown if SECRET in text] == []
    assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    "text",
    [
        f"servers: [{{url: 'turn:u:{SECRET}@x', username: u, password: p}}]",
        f"servers: [{{url: 'turn:x?password={SECRET}', username: u, password: p}}]",
        f"servers: [{{url: 'turn://{SECRET}', username: u, password: p}}]",
        f"servers: [{{url: [{SECRET}]}}]",
        f"servers: [{{url: 'turn:x', username: u, password: [{SECRET}]}}]",
        f"servers: [{{url: 'turn:x', username: u, password: {{file: [{SECRET}]}}}}]",
        f"servers: [{{url: 'turn:x', username: u, password: '{SECRET}${{'}}]",
        f"servers: [{{url: 'turn:x', username: u, password: '{SECRET}${{NOT_SET}}'}}]",
        f"servers: [{{url: 'turn:x', password: {SECRET}}}]",
        f"servers: [{{url: 'turn:x', passwort: {SECRET}}}]",
        f"servers: [{{url: 'turn:x', secret: [{SECRET}]}}]",
        f"servers: [{{url: 'turn:x', username: u, password: p, secret: {SECRET}}}]",
        f"servers: [{{url: 'turn:x', tls: {{server_name: [{SECRET}]}}}}]",
        f"servers: {SECRET}",
        f"servers: [{SECRET}]",
        f"servers: [{{url: 'turn:x', password: *{SECRET}}}]",
        f"servers: [{{url: 'turn:x', password: !{SECRET}}}]",
        f"servers: [{{url: 'turn:x', password: !{SECRET}!x}}]",
        f"servers: [{{url: 'turn:x', password: '{SECRET}]",
        f"servers: [{{url: 'turn:x', password: @{SECRET}]",
        f"servers: [{{url: 'turn:x', password: {SECRET}: y: z}}]",
        f"servers: [{{url: 'turn:x', username: u, password: {SECRET}}}]\nlite: true",
        f"servers: [{{url: 'turn:x', username: u, password: {SECRET}}}]\nfoo: 1",
    ],
)
def test_secrets_do_not_show_in_errors(text: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(text)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown.replace(text, "")


def test_secrets_do_not_show_in_errors_of_models_made_in_code() -> None:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate({"servers": [{"url": "turn:x", "username": SECRET, "pass": SECRET}], "lite": 1})
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
