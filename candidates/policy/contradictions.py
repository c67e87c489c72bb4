"""Keys of the policy that are each valid and cannot be meant together.

Each rule yields what it found; all rules run. What ``transports`` makes idle is an error only if it was
written: ``transports: [udp]`` alone is fine, with ``tcp_types: [so]`` it is not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

from candidates.candidate import CandidateType, TcpType, Transport
from candidates.policy.coverage import EVERYTHING, leaves_any
from candidates.policy.errors import KeyPath
from candidates.policy.sections import RemoteRule, Section, vpn_glob
from candidates.policy.values import AddressFamily, IPNetwork

if TYPE_CHECKING:
    from candidates.policy.model import Policy

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))


@dataclass(frozen=True, slots=True)
class Contradiction:
    """The key to change, why, and what would be right."""

    path: KeyPath
    wrong: str
    right: str


_Found: TypeAlias = Iterator[Contradiction]


def contradictions(policy: Policy) -> list[Contradiction]:
    """Everything in a policy that contradicts itself."""
    return [found for rule in _RULES for found in rule(policy)]


def _empty_lists(policy: Policy) -> _Found:
    for section, prefix in ((policy, ()), (policy.advertise, ("advertise",))):
        for name in ("transports", "candidate_types", "address_families"):
            if not getattr(section, name):
                yield Contradiction((*prefix, name), "the list is empty", "name at least one, or leave the key out")


def _tcp(policy: Policy) -> _Found:
    for section, prefix in ((policy, ()), (policy.advertise, ("advertise",))):
        path: KeyPath = (*prefix, "tcp_types")
        has_tcp = Transport.TCP in section.transports
        if has_tcp and not section.tcp_types:
            yield Contradiction(path, "the list is empty, but transports has tcp", "name a TCP type, or remove tcp")
        if not has_tcp and section.tcp_types and "tcp_types" in section.model_fields_set:
            yield Contradiction(path, "transports has no tcp", "add tcp to transports, or remove tcp_types")


def _ports(policy: Policy) -> _Found:
    for transport in Transport:
        is_used = transport in policy.transports or (transport is Transport.TCP and _reaches_relays_by_tcp(policy))
        if getattr(policy.ports, transport) and not is_used:
            yield Contradiction(
                ("ports", transport.value),
                f"transports has no {transport}",
                f"add {transport} to transports, or remove the range",
            )
    tcp = policy.ports.tcp
    if tcp and tcp[0] == tcp[1] and {TcpType.PASSIVE, TcpType.SO} <= set(policy.tcp_types):
        yield Contradiction(
            ("ports", "tcp"),
            "one port is too few: passive and so take a port each (RFC 6544 s5.1)",
            "give a wider range, or remove one of them from tcp_types",
        )


def _reaches_relays_by_tcp(policy: Policy) -> bool:
    return any(server.relays and server.url.transport is not Transport.UDP for server in policy.servers)


def _sources(policy: Policy) -> _Found:
    """Something must be there to gather candidates from."""
    types = set(policy.candidate_types)
    relays = [server for server in policy.servers if server.relays]
    if not types or CandidateType.HOST in types:
        return
    path: KeyPath = ("candidate_types",)
    if types == {CandidateType.PRFLX}:
        yield Contradiction(path, "prflx candidates are learned, not gathered", "add host, srflx or relay")
    elif CandidateType.SRFLX in types and not policy.servers:
        yield Contradiction(path, "neither a STUN nor a TURN server is configured", "add one to servers, or add host")
    elif CandidateType.SRFLX not in types and not relays:
        yield Contradiction(
            path, "only relay is allowed, but there is no TURN server", 'add "turn:..." to servers, or add host'
        )
    elif CandidateType.SRFLX not in types and not _relays_transport(policy):
        yield Contradiction(
            ("servers",),
            "TCP is relayed over TCP or TLS to the server, never over UDP (RFC 6062 s4.1)",
            "write turn:...?transport=tcp or turns:..., or add udp to transports",
        )


def _relays_transport(policy: Policy) -> bool:
    legs = {server.url.transport for server in policy.servers if server.relays}
    return Transport.UDP in policy.transports or legs != {Transport.UDP}


def _lite(policy: Policy) -> _Found:
    if not policy.lite:
        return
    dialling = [str(each) for each in policy.tcp_types if each is not TcpType.PASSIVE]
    if Transport.TCP in policy.transports and dialling:
        yield Contradiction(
            ("tcp_types",),
            f"a lite agent opens no connections, but tcp_types has {', '.join(dialling)} (RFC 6544 s4.4)",
            "write tcp_types: [passive], or lite: false",
        )
    gathered = [str(each) for each in policy.candidate_types if each in (CandidateType.SRFLX, CandidateType.RELAY)]
    if gathered:
        yield Contradiction(
            ("candidate_types",),
            f"a lite agent has host candidates only, but candidate_types has {', '.join(gathered)} (RFC 8445 s5.2)",
            "write candidate_types: [host], or lite: false",
        )
    if policy.servers:
        yield Contradiction(
            ("servers",), "a lite agent asks no servers (RFC 8445 s5.2)", "remove them, or write lite: false"
        )


def _interfaces(policy: Policy) -> _Found:
    include, exclude = policy.interfaces.include, policy.interfaces.exclude
    if not include:
        yield Contradiction(("interfaces", "include"), "the list is empty: no interface is left", 'write ["*"] for all')
        return
    # A pattern of literals and stars that matches another pattern's text matches all that the other matches.
    plain = [glob for glob in exclude if not set("?[") & set(glob)]
    if all(any(fnmatchcase(glob, other) for other in plain) for glob in include):
        yield Contradiction(
            ("interfaces", "exclude"),
            "every interface that is included is excluded",
            "exclude fewer, or include others",
        )
    if not policy.interfaces.vpn and all(vpn_glob(glob) for glob in include):
        yield Contradiction(
            ("interfaces", "include"), "only VPN-like names are included, but vpn is false", "write vpn: true"
        )


def _addresses(policy: Policy) -> _Found:
    exclude = policy.addresses.exclude
    path: KeyPath = ("addresses", "exclude")
    covered = [family for family in policy.address_families if not _leaves((family,), (), exclude)]
    for family in covered:
        yield Contradiction(
            path, f"every {family} address is excluded", f"exclude less, or remove {family} from address_families"
        )
    if covered or not policy.address_families:
        return
    include = policy.addresses.include
    if not _leaves(policy.address_families, include, ()):
        families = " or ".join(policy.address_families)
        yield Contradiction(("addresses", "include"), f"no {families} block is included", "add one, or the family")
    elif not _leaves(policy.address_families, include, exclude):
        yield Contradiction(path, "every address that is included is excluded", "exclude less, or include more")
    else:
        yield from _special_addresses(policy)


def _special_addresses(policy: Policy) -> _Found:
    exclude = policy.addresses.exclude
    for name, blocks in (("loopback", LOOPBACK), ("link_local", LINK_LOCAL)):
        if not getattr(policy.interfaces, name):
            exclude = (*exclude, *blocks)
            if not _leaves(policy.address_families, policy.addresses.include, exclude):
                yield Contradiction(
                    ("addresses", "include"),
                    f"only {name.replace('_', '-')} addresses are left, but interfaces.{name} is false",
                    f"write interfaces: {{{name}: true}}, or include others",
                )
                return


def _remote(policy: Policy) -> _Found:
    for name in ("allow", "deny"):
        for index, rule in enumerate(getattr(policy.remote, name)):
            if rule == RemoteRule():
                yield Contradiction(
                    ("remote", name, index), "the rule has no condition", "give it a cidr, type or transport"
                )
    cells = [(type_, transport) for type_ in CandidateType for transport in policy.transports]
    allow = policy.remote.allow or (RemoteRule(),)
    if cells and not any(_leaves_remote(policy, allow, *cell) for cell in cells):
        key = "deny" if policy.remote.deny else "allow"
        yield Contradiction(
            ("remote", key), "no candidate of the peer is left, whatever it is", "deny less, or allow more"
        )


def _leaves_remote(policy: Policy, allow: tuple[RemoteRule, ...], type_: CandidateType, transport: Transport) -> bool:
    def blocks(rules: tuple[RemoteRule, ...], family: AddressFamily) -> list[IPNetwork]:
        return [
            rule.cidr or EVERYTHING[family]
            for rule in rules
            if rule.type in (None, type_) and rule.transport in (None, transport)
        ]

    return any(
        leaves_any(family, blocks(allow, family), blocks(policy.remote.deny, family))
        for family in policy.address_families
    )


def _advertise(policy: Policy) -> _Found:
    for name in ("transports", "candidate_types", "tcp_types", "address_families"):
        gathered, told = getattr(policy, name), getattr(policy.advertise, name)
        if name == "tcp_types" and set(policy.transports) & set(policy.advertise.transports) != {Transport.TCP}:
            continue
        if gathered and told and not set(gathered) & set(told):
            yield Contradiction(
                ("advertise", name), f"nothing of it is in {name}: the peer is told nothing", "name one of both"
            )
    for family in policy.advertise.address_families:
        if not _leaves((family,), (), policy.advertise.exclude):
            yield Contradiction(
                ("advertise", "exclude"),
                f"every {family} address is excluded",
                f"exclude less, or remove {family} from advertise.address_families",
            )


def _servers(policy: Policy) -> _Found:
    for index, server in enumerate(policy.servers):
        if server.secret and server.password:
            yield Contradiction(
                ("servers", index, "secret"), "password says the same in another way", "remove one of the two"
            )
        elif server.password and not server.username:
            yield Contradiction(("servers", index, "password"), "it is useless without username", "add username")
        elif server.username and not (server.password or server.secret):
            yield Contradiction(("servers", index, "username"), "it is useless without password", "add password")
        if "credential_lifetime" in server.model_fields_set and not server.secret:
            yield Contradiction(
                ("servers", index, "credential_lifetime"), "it is useless without secret", "add secret, or remove it"
            )
        if server.relays and not (server.username or server.password or server.secret):
            yield Contradiction(
                ("servers", index, "url"),
                "a TURN server needs credentials (RFC 8656 s5)",
                "add username and password, or secret",
            )
        if "tls" in server.model_fields_set and not server.url.scheme.secure:
            secure = f"{server.url.scheme}s"
            yield Contradiction(
                ("servers", index, "tls"), f"a {server.url.scheme} server is spoken to without TLS", f"write {secure}:"
            )


def _preferences(policy: Policy) -> _Found:
    types, directions = policy.preferences.types, policy.preferences.directions
    for transport, preferences in (("udp", types.udp), ("tcp", types.tcp)):
        path: KeyPath = ("preferences", "types", transport)
        yield from _distinct(path, preferences, "RFC 8445 s5.1.2.1")
        if preferences.prflx < preferences.srflx:
            yield Contradiction(
                (*path, "prflx"),
                f"{preferences.prflx} is lower than srflx, {preferences.srflx} (RFC 8445 s5.1.2.1)",
                "give prflx the higher preference",
            )
    for name, direction in (("direct", directions.direct), ("nat", directions.nat)):
        yield from _distinct(("preferences", "directions", name), direction, "RFC 6544 s4.2")


def _distinct(path: KeyPath, preferences: Section, rule: str) -> _Found:
    names: dict[int, str] = {}
    for name, value in preferences:
        if value in names:
            yield Contradiction(
                (*path, name), f"{value} is also the preference of {names[value]} ({rule})", "give each its own"
            )
        names.setdefault(value, name)


def _limits(policy: Policy) -> _Found:
    if policy.limits.connects_per_ip == 1 and {TcpType.ACTIVE, TcpType.SO} <= set(policy.tcp_types):
        yield Contradiction(
            ("limits", "connects_per_ip"),
            "one attempt is kept for simultaneous open, so none is left for active candidates",
            "write 2 to 5, or remove one of them from tcp_types",
        )


def _times(policy: Policy) -> _Found:
    if policy.consent.enabled and policy.consent.interval >= policy.consent.timeout:
        yield Contradiction(
            ("consent", "interval"),
            f"{policy.consent.interval:g} s is not below consent.timeout, {policy.consent.timeout:g} s",
            "ask several times before consent is lost (RFC 7675 s5.1)",
        )
    for key in ("grace", "relay_grace"):
        grace = getattr(policy.nomination, key)
        meant = key == "grace" or key in policy.nomination.model_fields_set  # else another impatience would be refused
        if meant and grace >= policy.timeouts.patience:
            yield Contradiction(
                ("nomination", key),
                f"{grace:g} s is not below timeouts.patience, {policy.timeouts.patience:g} s",
                "nominate before the session may fail",
            )


def _own_server(policy: Policy) -> _Found:
    server = policy.server
    if server.port is None and server.tls_port is None:
        yield Contradiction(("server", "port"), "tls_port is null, too: it listens nowhere", "give one of them")
    elif server.alternate_port is not None and server.port is None:
        yield Contradiction(("server", "alternate_port"), "port is null", "give port, or remove alternate_port")
    if server.tls_port is not None and server.certificate is None:
        yield Contradiction(("server", "tls_port"), "there is no certificate", "add certificate, or remove tls_port")
    if "default_lifetime" in server.model_fields_set and server.default_lifetime > server.max_lifetime:
        yield Contradiction(
            ("server", "default_lifetime"),
            f"{server.default_lifetime:g} s is longer than max_lifetime, {server.max_lifetime:g} s",
            "give the lower one",
        )
    if server.redirect_from and not server.alternate_servers:
        yield Contradiction(("server", "redirect_from"), "there are no alternate_servers", "name some, or remove it")
    names = {name for name, _ in server.users_file.users} if server.users_file else set()
    for index, user in enumerate(server.users):
        if user.name in names:
            yield Contradiction(
                ("server", "users", index, "name"),
                "the user stands twice, here or in users_file",
                "name each user once",
            )
        names.add(user.name)
    relays = [each.relay for each in server.external_addresses]
    for index, relay in enumerate(relays):
        if relay in relays[:index]:
            yield Contradiction(
                ("server", "external_addresses", index, "relay"), "the address stands twice", "name each address once"
            )


def _certificates(policy: Policy) -> _Found:
    for name, section in (("server", policy.server), ("rendezvous", policy.rendezvous)):
        if section.key is not None and section.certificate is None:
            yield Contradiction((name, "key"), "it is useless without certificate", "add certificate, or remove key")


def _leaves(
    families: tuple[AddressFamily, ...], include: tuple[IPNetwork, ...], exclude: tuple[IPNetwork, ...]
) -> bool:
    return any(leaves_any(family, include or (EVERYTHING[family],), exclude) for family in families)


_RULES: tuple[Callable[[Policy], _Found], ...] = (
    _empty_lists,
    _tcp,
    _ports,
    _sources,
    _lite,
    _interfaces,
    _addresses,
    _remote,
    _advertise,
    _servers,
    _preferences,
    _limits,
    _times,
    _own_server,
    _certificates,
)
