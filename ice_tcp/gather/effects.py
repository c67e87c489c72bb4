"""What each rule of a policy does on this host: `ice-tcp policy explain`.

A rule is a setting that decides something before there is a peer. What does nothing here is told, too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from candidates.candidate import Candidate, CandidateType, InterfaceAddress, TcpType, Transport
from candidates.policy import AddressFamily, Policy, RemoteRule, Ruling, Setting, effective_settings
from ice_tcp.gather import words
from ice_tcp.gather.document import document
from ice_tcp.gather.findings import GATHERED_TYPES, Findings

NOTHING: Final = "nothing here"
LATER: Final = (
    "Pacing, nomination, consent, the other time-outs and limits decide only once there is a peer; server and "
    "rendezvous are heeded by `ice-tcp server` and `ice-tcp rendezvous`. `ice-tcp policy show` has every key."
)
_INDEX: Final = re.compile(r"\[\d+\]$")


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rule does here, a line each; nothing if there is none. ``line`` is where the file says it, or None."""

    key: str
    value: Any
    line: int | None
    does: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Here:
    """This host: its addresses with the policy's rulings, and what was gathered; without servers if `is_offline`."""

    policy: Policy
    addresses: tuple[tuple[InterfaceAddress, Ruling], ...]
    findings: Findings
    is_offline: bool

    @property
    def candidates(self) -> list[Candidate]:
        return [each.candidate for each in self.findings.kept]


_Lines: TypeAlias = Iterator[str]


def here(policy: Policy, addresses: Iterable[InterfaceAddress], findings: Findings, *, is_offline: bool) -> Here:
    """What `effects` looks at; ``findings`` are of a gathering by this policy."""
    return Here(policy, tuple((each, policy.keeps_address(each)) for each in addresses), findings, is_offline)


def effects(place: Here, text: str = "") -> list[Effect]:
    """Every rule, in the order of the reference; ``text`` is the file that the policy was read from."""
    settings = effective_settings(place.policy, text)
    values = {each.key: each.value for each in settings}
    found = [
        Effect(key, _value(key, values), _line(key, settings), tuple(does(place, key)))
        for key, does in [*_RULES.items(), *_of_lists(place.policy)]
    ]
    order = {each.key: number for number, each in reversed(list(enumerate(settings)))}
    return sorted(found, key=lambda each: min((order[key] for key in order if key.startswith(each.key)), default=0))


def plain(place: Here, found: Sequence[Effect], source: str) -> _Lines:
    """Lines for people; ``source`` is what the file is called."""
    yield "Addresses"
    for address, ruling in place.addresses:
        yield f"  {address.host} on {address.interface}: {ruling}"
    if not place.addresses:
        yield "  none"
    yield "Rules"
    for each in found:
        origin = "default" if each.line is None else f"{source}:{each.line}"
        rest = "" if each.does else f"; {NOTHING}"
        yield f"  {each.key}: {json.dumps(each.value, ensure_ascii=False)}  # {origin}{rest}"
        yield from (f"    {line}" for line in each.does)
    yield LATER


def fields(place: Here, found: Sequence[Effect]) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "offline": place.is_offline,
        "addresses": [
            {"interface": address.interface, "address": address.host, "kept": ruling.kept, "rule": ruling.rule}
            for address, ruling in place.addresses
        ],
        "rules": [{"key": each.key, "value": each.value, "line": each.line, "does": each.does} for each in found],
        "gathering": document(place.findings, []),
    }


# What is gathered


def _transports(place: Here, _: str) -> _Lines:
    yield from _kinds(Transport, place.policy.transports, Counter(each.transport for each in place.candidates))


def _tcp_types(place: Here, _: str) -> _Lines:
    if Transport.TCP in place.policy.transports:
        yield from _kinds(TcpType, place.policy.tcp_types, Counter(each.tcptype for each in place.candidates))


def _kinds(every: Iterable[str], named: Iterable[str], counts: Mapping[Any, int]) -> _Lines:
    for kind in every:
        if kind not in named:
            yield f"removes every {kind} candidate: none is gathered"
        elif counts[kind]:
            yield f"keeps {kind}: {_count(counts[kind], 'candidate')}"


def _candidate_types(place: Here, _: str) -> _Lines:
    for kind in GATHERED_TYPES:
        of_kind = [f"{words.kind(each)} {each.address}" for each in place.candidates if each.type is kind]
        if kind not in place.policy.candidate_types:
            yield f"removes every {kind} candidate: none is gathered"
        elif of_kind:
            yield f"keeps {kind}: {', '.join(of_kind)}"
    if CandidateType.PRFLX not in place.policy.candidate_types:
        yield "removes prflx candidates, which checks will find"


def _families(place: Here, key: str) -> _Lines:
    for family in AddressFamily:
        count = sum(ruling.kept and address.ip.version == family.version for address, ruling in place.addresses)
        if family in place.policy.address_families and count:
            yield f"keeps {family}: {_count(count, 'address')}"
    yield from _removed_addresses(place, key)


def _lite(place: Here, _: str) -> _Lines:
    if place.policy.lite:
        yield "answers checks and sends none; no server is asked"


def _removed_addresses(place: Here, key: str) -> _Lines:
    for address, ruling in place.addresses:
        if not ruling.kept and _key_of(ruling.rule) == key:
            yield f"removes {address.host} on {address.interface}, by {ruling.rule}"


def _included_interfaces(place: Here, key: str) -> _Lines:
    before = ("interfaces.exclude", key)
    names = dict.fromkeys(each.interface for each, ruling in place.addresses if _key_of(ruling.rule) not in before)
    if names:
        yield f"lets through {', '.join(names)}"
    yield from _removed_addresses(place, key)


def _included_addresses(place: Here, key: str) -> _Lines:
    for address, ruling in place.addresses:
        if ruling.kept:
            yield f"keeps {address.host} on {address.interface}, by {ruling.rule}"
    yield from _removed_addresses(place, key)


def _ports(place: Here, key: str) -> _Lines:
    transport = Transport(key.rpartition(".")[2])
    if getattr(place.policy.ports, transport) is None:
        return
    bound = [each for each in place.candidates if each.transport is transport and each.type is CandidateType.HOST]
    ports = sorted({each.address.port for each in bound if each.tcptype is not TcpType.ACTIVE})
    if ports:
        yield f"binds {', '.join(map(str, ports))}"


# What the peer is told, and what of the peer is used


def _hidden(place: Here, key: str) -> _Lines:
    for each in place.findings.kept:
        if not each.is_told and _key_of(each.telling) == key:
            yield f"hides {words.described(each.candidate)}, by {each.telling}"


def _remote(rule: RemoteRule, verb: str) -> Callable[[Here, str], _Lines]:
    def does(_: Here, __: str) -> _Lines:
        conditions = ", ".join(f"{name} {value}" for name, value in rule if value is not None)
        yield f"{verb} candidates of a peer with {conditions}; there is no peer yet"

    return does


def _publish(place: Here, _: str) -> _Lines:
    if place.policy.mdns.publish:
        for address, ruling in place.addresses:
            if ruling.kept:
                yield f"tells a name under .local for {address.host}, in the drop-ins"


# Which candidates are better


def _type_preference(place: Here, key: str) -> _Lines:
    transport, kind = key.split(".")[2:]
    of_kind = [each for each in place.candidates if (each.transport, each.type) == (transport, kind)]
    if of_kind:
        yield _ranks(of_kind)


def _direction_preference(place: Here, key: str) -> _Lines:
    group, tcp_type = key.split(".")[2:]
    is_nat = group == "nat"
    of_kind = [
        each for each in place.candidates if each.tcptype == tcp_type and (each.type is CandidateType.SRFLX) is is_nat
    ]
    if of_kind:
        yield _ranks(of_kind)


def _ranks(candidates: Sequence[Candidate]) -> str:
    priorities = [each.priority for each in candidates]
    span = f"{min(priorities)} to {max(priorities)}" if min(priorities) < max(priorities) else f"{priorities[0]}"
    return f"ranks {_count(len(candidates), 'candidate')}, priority {span}"


def _interface_preference(place: Here, _: str) -> _Lines:
    preferences = place.policy.preferences
    names = dict.fromkeys(address.interface for address, ruling in place.addresses if ruling.kept)
    matched = [name for name in names if preferences.interface_rank(name) < len(preferences.interfaces)]
    if matched:
        yield f"prefers {', '.join(sorted(names, key=preferences.interface_rank))}, in this order"


# Servers


def _server(url: str) -> Callable[[Here, str], _Lines]:
    def does(place: Here, _: str) -> _Lines:
        if place.is_offline:
            yield "not asked: offline"
            return
        for server in place.findings.servers:
            if server.url == url:
                yield words.state(server)
                for report in server.reports:
                    way = f" ({words.way(report)})" if report.leg is not None else ""
                    yield f"{words.asked(report)}{way}: {words.answer(report, place.findings.own_addresses)}"
                yield from (f"{failure.cause}: {failure.remedy}" for failure in server.failures)

    return does


def _unverified(place: Here, key: str) -> _Lines:
    server = place.policy.servers[int(key[len("servers[") : key.index("]")])]
    if server.url.scheme.secure:
        yield (
            "the certificate is verified" if server.tls.verify else "takes any certificate: whoever is in between reads"
        )


def _no_servers(_: Here, __: str) -> _Lines:
    yield words.NO_SERVERS


def _relay(place: Here, key: str) -> _Lines:
    value = getattr(place.policy.relay, key.rpartition(".")[2])
    relayed = sum(each.type is CandidateType.RELAY for each in place.candidates)
    if value and relayed:
        yield f"asked for with {_count(relayed, 'relayed candidate')}"


def _gather_timeout(place: Here, _: str) -> _Lines:
    seconds = place.findings.seconds
    if seconds >= place.policy.timeouts.gather:
        yield f"ended gathering after {seconds:.1f} s: a server was still silent"


def _predicted(place: Here, _: str) -> _Lines:
    count = place.policy.simultaneous_open.predict_ports
    if count and CandidateType.SRFLX in {each.type for each in place.candidates}:
        yield f"tells up to {_count(count, 'port')} more, if servers see a NAT count them"


_RULES: Final[Mapping[str, Callable[[Here, str], _Lines]]] = {
    "transports": _transports,
    "candidate_types": _candidate_types,
    "tcp_types": _tcp_types,
    "address_families": _families,
    "lite": _lite,
    "interfaces.include": _included_interfaces,
    **{
        f"interfaces.{name}": _removed_addresses
        for name in ("exclude", "loopback", "link_local", "vpn", "default_route_only")
    },
    "addresses.include": _included_addresses,
    "addresses.exclude": _removed_addresses,
    "ports.udp": _ports,
    "ports.tcp": _ports,
    **{
        f"advertise.{name}": _hidden
        for name in ("transports", "candidate_types", "tcp_types", "address_families", "exclude")
    },
    "mdns.publish": _publish,
    **{f"preferences.types.{transport}.{kind}": _type_preference for transport in Transport for kind in CandidateType},
    **{
        f"preferences.directions.{group}.{tcp_type}": _direction_preference
        for group in ("direct", "nat")
        for tcp_type in TcpType
    },
    "preferences.interfaces": _interface_preference,
    "timeouts.gather": _gather_timeout,
    "simultaneous_open.predict_ports": _predicted,
    "relay.lifetime": _relay,
    "relay.even_port": _relay,
    "relay.dont_fragment": _relay,
}
"""By key: what a rule does here."""


def _of_lists(policy: Policy) -> Iterator[tuple[str, Callable[[Here, str], _Lines]]]:
    """The rules that stand in lists."""
    for name, verb in (("allow", "keeps"), ("deny", "removes")):
        rules = getattr(policy.remote, name)
        if not rules:
            yield f"remote.{name}", lambda *_: iter(())
        yield from ((f"remote.{name}[{index}]", _remote(rule, verb)) for index, rule in enumerate(rules))
    if not policy.servers:
        yield "servers", _no_servers
    for index, server in enumerate(policy.servers):
        yield f"servers[{index}].url", _server(str(server.url))
        yield f"servers[{index}].tls.verify", _unverified


def _value(key: str, values: Mapping[str, Any]) -> Any:
    """Of a setting, or what is given of the settings below it."""
    if key in values:
        return values[key]
    below = {name.removeprefix(f"{key}."): value for name, value in values.items() if name.startswith(f"{key}.")}
    return {name: value for name, value in below.items() if value is not None}


def _line(key: str, settings: Iterable[Setting]) -> int | None:
    """Where the file says it, or the first of what is below it."""
    lines = [each.line for each in settings if each.key == key or each.key.startswith(f"{key}.")]
    return next((line for line in lines if line is not None), None)


def _key_of(rule: str) -> str:
    """``interfaces.exclude`` of ``interfaces.exclude[0]: docker*``."""
    return _INDEX.sub("", rule.partition(":")[0])


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
