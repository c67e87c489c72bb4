"""The options of a server from the section ``server`` of a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from candidates.policy import OwnServer
from ice_tcp.server.options import Limits, ServerOptions
from ice_tcp.server.peers import PeerPolicy

_SAME: Final = (
    *("port", "alternate_port", "tls_port", "realm", "nonce_lifetime", "relay_ports", "udp_relay", "tcp_relay"),
    *("max_lifetime", "alternate_servers", "redirect_from", "handshake_timeout", "idle_timeout"),
)
"""Keys of the section that are options."""
KEYS: Final = {"hosts": "listen", "relay_hosts": "relay_addresses", "external_hosts": "external_addresses"}
"""By name: options whose keys are called otherwise."""
_PEERS: Final = {
    "allow_loopback": "loopback",
    "allow_private": "private",
    "allow_link_local": "link_local",
    "allow_peer": "allow",
    "deny_peer": "deny",
}
_LIMITS: Final = {"total_quota": "allocations", "user_quota": "allocations_per_user"}
"""The command's names for what are parts of an option."""


def options_of(section: OwnServer, default_hosts: Callable[[], tuple[str, ...]]) -> ServerOptions:
    """What the section says; ``default_hosts`` where it names no address. Raises ValueError for what cannot work."""
    return ServerOptions(
        hosts=section.listen or default_hosts(),
        users=section.passwords,
        shared_secret=section.secret.get_secret_value() if section.secret is not None else None,
        relay_hosts=section.relay_addresses or None,
        external_hosts={each.relay: each.public for each in section.external_addresses},
        peers=PeerPolicy(**dict(section.peers)),
        limits=Limits(**dict(section.limits)),
        default_lifetime=min(section.default_lifetime, section.max_lifetime),
        **{name: getattr(section, name) for name in _SAME},
    )


def overridden(options: ServerOptions, given: Mapping[str, Any]) -> ServerOptions:
    """The options with what a command line gives instead, by its own names for some. Raises ValueError."""
    changes = dict(given)
    peers = {name: changes.pop(option) for option, name in _PEERS.items() if option in changes}
    limits = {name: changes.pop(option) for option, name in _LIMITS.items() if option in changes}
    if "max_lifetime" in changes:
        changes["default_lifetime"] = min(options.default_lifetime, changes["max_lifetime"])
    return replace(options, peers=replace(options.peers, **peers), limits=replace(options.limits, **limits), **changes)
