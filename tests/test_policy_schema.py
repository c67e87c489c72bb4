"""default.yaml, the JSON schema and docs/policy.md say the same as the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from candidates.policy import Policy, policy_schema
from candidates.policy.sections import Section
from interop.policy_reference import policy_reference
from tests.policy_texts import load

ROOT = Path(__file__).parent.parent
DEFAULT = (ROOT / "candidates" / "default.yaml").read_text("utf-8")
VALIDATOR = Draft202012Validator(policy_schema())


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _model_keys(section: Section, prefix: str = "") -> Iterator[str]:
    for key in type(section).model_fields:
        value = getattr(section, key)
        yield f"{prefix}{key}"
        if isinstance(value, Section):
            yield from _model_keys(value, f"{prefix}{key}.")


def test_default_yaml_is_the_default() -> None:
    assert load(DEFAULT) == Policy.default()


def test_default_yaml_has_every_key() -> None:
    assert sorted(_keys(yaml.safe_load(DEFAULT))) == sorted(_model_keys(Policy.default()))


def test_the_servers_in_the_comments_of_default_yaml_load() -> None:
    example = DEFAULT[DEFAULT.index("#   servers:\n") : DEFAULT.index("\nservers: []")]
    text = "".join(line.removeprefix("#   ") for line in example.splitlines(keepends=True))
    text = text.replace("/run/secrets/turn-user", "/run/secrets/turn")
    text = text.replace("/run/secrets/turn-password", "/run/secrets/turn")
    assert [str(server.url) for server in load(text).servers] == [
        "stun:stun.example.org",
        "turn:turn.example.org?transport=tcp",
        "turns:[2001:db8::7]:443?transport=tcp",
        "turn:turn.example.net",
    ]


def test_the_schema_is_a_schema_and_default_yaml_fits_it() -> None:
    Draft202012Validator.check_schema(policy_schema())
    assert list(VALIDATOR.iter_errors(yaml.safe_load(DEFAULT))) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "ports: {udp: 40000-40100, tcp: [1, 2]}",
        "remote: {deny: [{cidr: 10.0.0.0/8, type: host, transport: udp}]}",
        "servers: [{url: 'turns:x', username: '${TURN_USER}', password: {file: /run/secrets/turn}, tls: {}}]",
        "timeouts: {rto: 1}",
        "server: {users: [{name: a, password: '${TURN_PASSWORD}'}], secret: {file: /run/secrets/turn}}",
        "server: {tls_port: 443, certificate: c, key: k, alternate_port: null}",
        "server: {alternate_servers: ['[2001:db8::1]:3478'], external_addresses: [{relay: 10.0.0.5, public: 8.8.8.8}]}",
        "rendezvous: {host: localhost, limits: {burst: 5}, redis: 'redis://localhost'}",
    ],
)
def test_the_schema_takes_what_loads(text: str) -> None:
    assert load(text) is not None
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "transprots: [udp]",
        "transports: [sctp]",
        "timeouts: {rto: 50ms}",
        "timeouts: {idle: 0}",
        "limits: {connects_per_ip: 6}",
        "ports: {udp: [0, 5]}",
        "ports: {udp: many}",
        "servers: [{username: u}]",
        "servers: [{url: 'http://x'}]",
        "servers: [{url: 'stun:x', password: {path: x}}]",
        "interfaces: {vpn: 1}",
        "server: {users: [{name: a}]}",
        "server: {port: 65536}",
        "server: {alternate_servers: ['192.0.2.1']}",
        "rendezvous: {limits: {connections: 0}}",
    ],
)
def test_the_schema_refuses_what_is_refused(text: str) -> None:
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) != []


def test_every_span_of_time_tells_its_unit() -> None:
    policy = Policy.default()
    sections = (policy.timeouts, policy.consent, policy.nomination, policy.pacing, policy.server)
    fields = [field for section in sections for field in type(section).model_fields.values()]
    spans = [field.description for field in fields if field.annotation is float]
    assert len(spans) == 22
    assert [text for text in spans if "econds" not in (text or "")] == []


def test_every_key_has_a_description() -> None:
    definitions = [policy_schema(), *policy_schema()["$defs"].values()]
    fields = [(name, field) for each in definitions for name, field in each.get("properties", {}).items()]
    assert [name for name, field in fields if "$ref" not in field and not field.get("description")] == []


def test_the_reference_is_current() -> None:
    """Else: python -m interop.policy_reference > docs/policy.md"""
    assert (ROOT / "docs" / "policy.md").read_text("utf-8") == policy_reference()
