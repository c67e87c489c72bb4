"""The policy: what a deployer decides, and its rulings on addresses and candidates."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from candidates.candidate import Candidate, CandidateType, InterfaceAddress, TcpType, Transport
from candidates.policy.contradictions import contradictions
from candidates.policy.errors import dotted
from candidates.policy.explanation import Explanation, explain
from candidates.policy.preferences import Preferences
from candidates.policy.rulings import Ruling
from candidates.policy.sections import (
    ALL_CANDIDATE_TYPES,
    ALL_FAMILIES,
    ALL_TCP_TYPES,
    ALL_TRANSPORTS,
    Addresses,
    Advertise,
    Consent,
    Interfaces,
    Limits,
    Mdns,
    Nomination,
    Pacing,
    PortRanges,
    Relay,
    Remote,
    RemoteRule,
    Section,
    SimultaneousOpen,
    Timeouts,
    vpn_glob,
)
from candidates.policy.servers import ServerPolicy
from candidates.policy.services import OwnServer, Rendezvous
from candidates.policy.values import AddressFamily, Distinct, Flag, IPNetwork


class Policy(Section):
    """What a deployer decides about candidates, checks and paths. One YAML file holds it; see `default.yaml`.

    Read one with ``load_policy``; ``Policy.default()`` is the policy of an empty file. Immutable and hashable.
    """

    transports: Annotated[tuple[Transport, ...], Distinct] = Field(
        default=ALL_TRANSPORTS, description="Transports of candidates."
    )
    candidate_types: Annotated[tuple[CandidateType, ...], Distinct] = Field(
        default=ALL_CANDIDATE_TYPES, description="Types of local candidates (RFC 8445 s5.1.1)."
    )
    tcp_types: Annotated[tuple[TcpType, ...], Distinct] = Field(
        default=ALL_TCP_TYPES, description="Types of local TCP candidates (RFC 6544 s4.1)."
    )
    address_families: Annotated[tuple[AddressFamily, ...], Distinct] = Field(
        default=ALL_FAMILIES, description="Address families of candidates."
    )
    lite: Flag = Field(
        default=False, description="Be a lite agent: host candidates only, TCP passive only (RFC 8445 s2.5)."
    )
    interfaces: Interfaces = Field(default=Interfaces(), description="Which interfaces are gathered from.")
    addresses: Addresses = Field(default=Addresses(), description="Which addresses of this machine are gathered from.")
    ports: PortRanges = Field(default=PortRanges(), description="Which local ports are bound.")
    remote: Remote = Field(default=Remote(), description="Which of the peer's candidates are used.")
    advertise: Advertise = Field(
        default=Advertise(), description="Which of the gathered candidates the peer is told of."
    )
    mdns: Mdns = Field(default=Mdns(), description="Names under .local in place of addresses.")
    preferences: Preferences = Field(default=Preferences(), description="How candidates are ranked.")
    pacing: Pacing = Field(default=Pacing(), description="How densely transactions are started.")
    timeouts: Timeouts = Field(default=Timeouts(), description="How long things are waited for.")
    nomination: Nomination = Field(default=Nomination(), description="When the controlling side nominates.")
    consent: Consent = Field(default=Consent(), description="Consent to send on a selected path.")
    simultaneous_open: SimultaneousOpen = Field(
        default=SimultaneousOpen(), description="How simultaneous open is tried."
    )
    servers: tuple[ServerPolicy, ...] = Field(default=(), description="STUN and TURN servers.")
    relay: Relay = Field(default=Relay(), description="What is asked of TURN servers for relayed candidates.")
    limits: Limits = Field(default=Limits(), description="Bounds on what a peer can make us keep.")
    server: OwnServer = Field(default=OwnServer(), description="What `ice-tcp server` does.")
    rendezvous: Rendezvous = Field(default=Rendezvous(), description="What `ice-tcp rendezvous` does.")

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if found := contradictions(self):
            text = "\n".join(f"{dotted(each.path)}: {each.wrong}; {each.right}" for each in found)
            raise PydanticCustomError("contradictions", "{text}", {"text": text, "found": found})
        return self

    @staticmethod
    @cache
    def default() -> Policy:
        """The default policy, always the same object."""
        return Policy()

    def revised(self, **changes: object) -> Policy:
        """This policy with other values for some top-level keys, checked as a whole.

        Values are as in the file: ``policy.revised(transports=["tcp"], limits={"pairs": 50})``.
        Raises pydantic's ValidationError.
        """
        return Policy.model_validate({**self.model_dump(exclude_unset=True), **changes})

    def keeps_address(self, address: InterfaceAddress) -> Ruling:
        """Whether candidates are gathered from an address of this machine."""
        by_interface = self._by_interface(address)
        return self._by_address(address) if by_interface is None else by_interface

    def keeps_local(self, candidate: Candidate) -> Ruling:
        """Whether a local candidate is kept, by its transport, type, TCP type and family."""
        return _by_kind(candidate, self, "")

    def advertises(self, candidate: Candidate) -> Ruling:
        """Whether the peer is told of a local candidate that ``keeps_local`` keeps."""
        ruling = _by_kind(candidate, self.advertise, "advertise.")
        if ruling.kept and (index := _index_of(candidate.address.ip, self.advertise.exclude)) is not None:
            return Ruling(False, f"advertise.exclude[{index}]: {self.advertise.exclude[index]}")
        return ruling

    def keeps_remote(self, candidate: Candidate) -> Ruling:
        """Whether a candidate of the peer is used."""
        for index, rule in enumerate(self.remote.deny):
            if _matches(rule, candidate):
                return Ruling(False, f"remote.deny[{index}]: {_words(rule)}")
        for index, rule in enumerate(self.remote.allow):
            if _matches(rule, candidate):
                return Ruling(True, f"remote.allow[{index}]: {_words(rule)}")
        if self.remote.allow:
            return Ruling(False, "remote.allow: no rule matches")
        return Ruling(True, "remote.allow: empty, all are allowed")

    def explain(
        self,
        *,
        address: InterfaceAddress | None = None,
        local: Candidate | None = None,
        remote: Candidate | None = None,
    ) -> Explanation:
        """Which rules keep or remove an address of this machine, a candidate, or with both candidates their pair.

        Print it for words, read its ``steps`` for the rulings. ``address`` is the local candidate's base, where
        it is known.
        """
        return explain(self, address, local, remote)

    def _by_interface(self, address: InterfaceAddress) -> Ruling | None:
        name, ip = address.interface, address.ip
        settings = self.interfaces
        for index, glob in enumerate(settings.exclude):
            if fnmatchcase(name, glob):
                return Ruling(False, f"interfaces.exclude[{index}]: {glob}")
        if not any(fnmatchcase(name, glob) for glob in settings.include):
            return Ruling(False, f"interfaces.include: no pattern matches {name}")
        if ip.is_loopback and not settings.loopback:
            return Ruling(False, "interfaces.loopback: false")
        if ip.is_link_local and not settings.link_local:
            return Ruling(False, "interfaces.link_local: false")
        if not settings.vpn and (looks := vpn_glob(name)):
            return Ruling(False, f"interfaces.vpn: false; {name} looks like a VPN's ({looks})")
        if settings.default_route_only and not address.default_route:
            return Ruling(False, "interfaces.default_route_only: true; no default route leaves by this address")
        return None

    def _by_address(self, address: InterfaceAddress) -> Ruling:
        ip = address.ip
        family = AddressFamily.of(ip.version)
        if family not in self.address_families:
            return Ruling(False, f"address_families: {family} is not among them")
        if (index := _index_of(ip, self.addresses.exclude)) is not None:
            return Ruling(False, f"addresses.exclude[{index}]: {self.addresses.exclude[index]}")
        if not self.addresses.include:
            return Ruling(True, "addresses.include: empty, all are included")
        if (index := _index_of(ip, self.addresses.include)) is not None:
            return Ruling(True, f"addresses.include[{index}]: {self.addresses.include[index]}")
        return Ruling(False, f"addresses.include: no block holds {address.host}")


def _by_kind(candidate: Candidate, lists: Policy | Advertise, prefix: str) -> Ruling:
    if candidate.transport not in lists.transports:
        return Ruling(False, f"{prefix}transports: {candidate.transport} is not among them")
    if candidate.type not in lists.candidate_types:
        return Ruling(False, f"{prefix}candidate_types: {candidate.type} is not among them")
    if candidate.tcptype is not None and candidate.tcptype not in lists.tcp_types:
        return Ruling(False, f"{prefix}tcp_types: {candidate.tcptype} is not among them")
    version = candidate.address.family
    if version is not None and (family := AddressFamily.of(version)) not in lists.address_families:
        return Ruling(False, f"{prefix}address_families: {family} is not among them")
    return Ruling(True, f"{prefix}candidate_types: {candidate.type}")


def _matches(rule: RemoteRule, candidate: Candidate) -> bool:
    ip = candidate.address.ip
    return (
        (rule.type is None or rule.type is candidate.type)
        and (rule.transport is None or rule.transport is candidate.transport)
        and (rule.cidr is None or (ip is not None and ip in rule.cidr))
    )


def _words(rule: RemoteRule) -> str:
    return ", ".join(f"{name} {value}" for name, value in rule if value is not None)


def _index_of(ip: IPv4Address | IPv6Address | None, blocks: tuple[IPNetwork, ...]) -> int | None:
    if ip is None:
        return None
    return next((index for index, block in enumerate(blocks) if ip in block), None)
