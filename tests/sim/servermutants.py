"""Planted faults in what the core does with servers: each patches it in memory, and the properties must catch it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from ice_tcp import datapath
from ice_tcp.core import checks, gather, nomination, session
from ice_tcp.core.outcomes import ServerFailure
from ice_tcp.core.servers import launcher, reflexive, relay, relays, servers, tcp_relay
from ice_tcp.core.servers.legs import Legs
from ice_tcp.core.turn import allocation, channels, credentials, permissions, redirects, tcp
from ice_tcp.core.verdicts import Verdict
from tests.sim.mutants import Mutant, always, mutant_into, nothing, original, replace_into

SERVER_MUTANTS: dict[str, Mutant] = {}
"""By name: what to enter to plant the fault."""

_mutant = mutant_into(SERVER_MUTANTS)
_replace = replace_into(SERVER_MUTANTS)

# Allocations, permissions, channels

_replace("permission-never-refreshed", permissions.Permissions, "_refresh", nothing)
_replace("channel-never-refreshed", channels, "REFRESH_INTERVAL", 1e9)
_replace("allocation-never-refreshed", allocation.Allocation, "_refresh_due", nothing)
_replace("allocation-not-deleted", allocation.Allocation, "_delete", original(allocation.Allocation, "_closed"))
_replace("nobody-permitted", relays.Relays, "permit", nothing)
_replace("refusal-of-a-peer-forgotten", relay.Relay, "permission_refused", nothing)
_replace("relay-never-replaced", session.Session, "relay_lost", nothing)
_replace("silent-relay-not-probed", relays.Relays, "probe", nothing)
_replace("losing-relays-kept", relays.Relays, "conclude", nothing)


@_mutant
def _stale_nonce_not_renewed() -> Iterator[None]:
    challenged = credentials.Authentication.challenged

    def stubborn(self: Any, message: Any) -> Any:
        return challenged(self, message) if self.realm is None else ServerFailure(Verdict.OTHER)

    with patch.object(credentials.Authentication, "challenged", stubborn):
        yield


@_mutant
def _redirection_not_followed() -> Iterator[None]:
    with patch.object(redirects.Redirects, "follow", lambda _self, failure, _now: failure):
        yield


# Relayed TCP (RFC 6062)

_replace("447-retried-at-once", tcp, "RECONNECT_WAIT", 0.0)
_replace("connection-attempts-ignored", tcp_relay.TcpRelay, "connection_attempt", nothing)
_replace("no-knocking", checks.Checks, "knocks_again", always(False))


@_mutant
def _early_bytes_of_a_peer_dropped() -> Iterator[None]:
    detach = datapath.StreamLegPath.detach

    def lose(self: datapath.StreamLegPath) -> bytes:
        detach(self)
        return b""

    with patch.object(datapath.StreamLegPath, "detach", lose):
        yield


# What shows, and what servers see


@_mutant
def _relay_only_opens_host_sockets() -> Iterator[None]:
    with patch.object(gather.Gathering, "_kinds", always(gather.KINDS)):
        yield


@_mutant
def _relay_only_tells_the_mapped_address() -> Iterator[None]:
    with patch.object(servers.Servers, "_may_tell", always(True)):
        yield


@_mutant
def _stun_connection_closed_early() -> Iterator[None]:
    answered = reflexive.Reflexive.answered

    def impatient(self: Any, question: Any, mapping: Any, now: float) -> None:
        answered(self, question, mapping, now)
        question.stop()

    with patch.object(reflexive.Reflexive, "answered", impatient):
        yield


@_mutant
def _stun_from_any_port() -> Iterator[None]:
    open_ = original(Legs, "open")

    def anywhere(self: Any, *args: Any, **named: Any) -> Any:
        return open_(self, *args, **{**named, "listener": None})

    with patch.object(Legs, "open", anywhere):
        yield


@_mutant
def _certificates_not_judged() -> Iterator[None]:
    open_ = original(Legs, "open")

    def trusting(self: Any, *args: Any, **named: Any) -> Any:
        return open_(self, *args, **{**named, "tls": None})

    with patch.object(Legs, "open", trusting):
        yield


# Pace and patience


@_mutant
def _servers_asked_all_at_once() -> Iterator[None]:
    with patch.object(launcher.Launcher, "launch", lambda _self, begin, now: begin(now)):
        yield


_replace("relay-nominated-at-once", nomination.Nomination, "_grace_of", always(0.0))
