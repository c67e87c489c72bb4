"""Takes addresses out of a trace, and leaves what a reader needs: which are equal, of which family and kind."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeVar, cast

from candidates.candidate import Candidate, IPAddress, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import parse_server_uri
from ice_tcp.core.events import MappingFound, RelayLost, ServerReport
from ice_tcp.core.exchanges import ServerAnswered, ServerMessageDropped, ServerRequestSent
from ice_tcp.core.outcomes import ServerFailure
from ice_tcp.core.trace import (
    AddressIgnored,
    CandidateIgnored,
    FreshPort,
    LocalCandidateKept,
    MessageDropped,
    SessionBegan,
)
from ice_tcp.tracefile.reader import Trace

T = TypeVar("T")

_NETWORKS: Final[Mapping[tuple[int, str], str]] = {
    (4, "global"): "198.18.0.0/15",
    (4, "private"): "10.0.0.0/8",
    (4, "shared"): "100.64.0.0/10",
    (4, "link-local"): "169.254.0.0/16",
    (4, "loopback"): "127.0.0.0/8",
    (6, "global"): "2001:db8::/32",
    (6, "private"): "fd00::/8",
    (6, "link-local"): "fe80::/10",
    (6, "loopback"): "::/96",
}
"""Where the pseudonyms of each family and kind come from, in the order in which addresses appear."""
_SHARED: Final = ipaddress.ip_network("100.64.0.0/10")
_SECRETIVE: Final = ("interfaces", "addresses", "servers", "remote", "advertise", "mdns")
"""Sections of a policy that name addresses, networks, hosts or interfaces."""
_TEXT: Final = "(redacted)"


class Redactor:
    """Replaces addresses and names of hosts by pseudonyms, the same ones in the whole trace.

    A pseudonym has the family and the kind (global, private, shared by a carrier, link-local, loopback) of what it
    stands for, and says nothing else: it is the next one in the order in which they appear. Ports stay, for they show
    how NATs work. What a peer or server says in words, a candidate's foundation (which may be a hash of its address),
    its ufrag and extensions, and the policy's settings that name hosts, networks and interfaces are taken out.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}
        self._foundations: dict[str, str] = {}
        self._counts: dict[tuple[int, str], int] = {}

    def entry(self, entry: T) -> T:
        """The same without what tells where or who somebody is."""
        return cast("T", self._value(entry))

    def _value(self, value: Any) -> Any:
        match value:
            case TransportAddress(host=host, port=port):
                return TransportAddress(self._host(host), port)
            case Candidate():
                return self._candidate(value)
            case IceParameters():
                return IceParameters("redacted", value.pwd, (), value.lite, value.pacing)
            case ServerFailure():
                plain = replace(value, text="", domain=None if value.domain is None else self._host(value.domain))
                return replace(plain, alternate=self._value(value.alternate))
            case SessionBegan():
                return replace(value, settings=tuple((key, _setting(key, text)) for key, text in value.settings))
            case tuple():
                return tuple(self._value(each) for each in value)
        if not is_dataclass(value) or isinstance(value, type):
            return value
        changes = {each.name: self._value(getattr(value, each.name)) for each in fields(value) if each.init}
        return replace(value, **(changes | self._texts(value)))

    def _texts(self, value: Any) -> dict[str, Any]:
        """Fields of text that name hosts, or hold words of others."""
        match value:
            case AddressIgnored(host=host, rule=rule):
                return {"host": self._host(host), "rule": _rule(rule)}
            case FreshPort(host=host):
                return {"host": self._host(host)}
            case ServerRequestSent(server=server) | ServerAnswered(server=server) | RelayLost(server=server):
                return {"server": self._server(server)}
            case ServerMessageDropped(server=server):
                return {"server": self._server(server), "detail": ""}
            case MessageDropped():
                return {"detail": ""}
            case ServerReport(server=server, host=host):
                return {"server": self._server(server), "host": None if host is None else self._host(host)}
            case CandidateIgnored(rule=rule) | LocalCandidateKept(rule=rule):
                return {"rule": _rule(rule)}
            case MappingFound(host=host):
                return {"host": self._host(host)}
        return {}

    def _candidate(self, candidate: Candidate) -> Candidate:
        foundation = self._foundations.setdefault(candidate.foundation, f"f{len(self._foundations) + 1}")
        return replace(
            candidate,
            foundation=foundation,
            address=self._value(candidate.address),
            related_address=self._value(candidate.related_address),
            ufrag=None,
            extensions=(),
        )

    def _server(self, text: str) -> str:
        """A server's URI, or its address."""
        try:
            uri = parse_server_uri(text)
        except ValueError:
            return self._host(text)
        return str(replace(uri, address=self._value(uri.address)))

    def _host(self, host: str) -> str:
        key = host.lower()
        if key not in self._hosts:
            self._hosts[key] = self._pseudonym(key)
        return self._hosts[key]

    def _pseudonym(self, host: str) -> str:
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            kind = "local" if host.rstrip(".").endswith(".local") else "invalid"
            return f"host-{self._next(0, kind)}.{kind}"
        if ip.is_unspecified:
            return host  # it hides an address already
        kind = kind_of(ip)
        network = ipaddress.ip_network(_NETWORKS[ip.version, kind])
        return str(network[self._next(ip.version, kind)])

    def _next(self, version: int, kind: str) -> int:
        count = self._counts.get((version, kind), 0) + 1
        self._counts[version, kind] = count
        return count


def redacted(trace: Trace) -> Trace:
    """A trace as it would have been written with ``redact``."""
    redactor = Redactor()
    entries = tuple((at, redactor.entry(entry)) for at, entry in trace.entries)
    return replace(trace, header=replace(trace.header, redacted=True), entries=entries)


@lru_cache(maxsize=4096)
def kind_of(ip: IPAddress) -> str:
    """``global``, ``private``, ``shared`` (RFC 6598), ``link-local`` or ``loopback``."""
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.version == 4 and ip in _SHARED:
        return "shared"
    local = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16") if ip.version == 4 else ("fc00::/7",)
    return "private" if any(ip in ipaddress.ip_network(each) for each in local) else "global"


def _rule(rule: str) -> str:
    """A rule is a key of the policy, then perhaps a value of it, which may be an address or an interface."""
    return rule.partition(":")[0]


def _setting(key: str, text: str) -> str:
    return json.dumps(_TEXT) if key.startswith(_SECRETIVE) else text
