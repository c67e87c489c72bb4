"""STUN and TURN servers: URIs (RFC 7064, RFC 7065), credentials and where they come from, TLS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)

from candidates.candidate import CandidateError, Transport, TransportAddress
from candidates.policy.sections import Section
from candidates.policy.values import Flag, Seconds, wrong


class Scheme(StrEnum):
    """Scheme of a server's URI; the ones with s run over TLS."""

    STUN = "stun"
    STUNS = "stuns"
    TURN = "turn"
    TURNS = "turns"

    @property
    def secure(self) -> bool:
        """Whether the server is spoken to over TLS."""
        return self in (Scheme.STUNS, Scheme.TURNS)

    @property
    def relays(self) -> bool:
        """Whether it is a TURN server."""
        return self in (Scheme.TURN, Scheme.TURNS)

    @property
    def default_port(self) -> int:
        """3478, or 5349 over TLS (RFC 8489 s8, RFC 8656 s5)."""
        return 5349 if self.secure else 3478


@dataclass(frozen=True, slots=True)
class ServerUri:
    """A STUN or TURN server: ``address`` may hold a name, which the shell resolves.

    ``transport`` is that of the leg to the server, not of a candidate; None where the URI leaves it open:
    then every transport of the policy is tried. ``has_port`` tells whether the URI names the port; else DNS may
    know another (RFC 8489 s8, RFC 5928), and that of ``address`` is the default.
    """

    scheme: Scheme
    address: TransportAddress
    transport: Transport | None = None
    has_port: bool = True

    def __str__(self) -> str:
        """The URI as it was configured."""
        query = f"?transport={self.transport}" if self.transport and self.scheme.relays else ""
        address = str(self.address) if self.has_port else str(self.address).rpartition(":")[0]
        return f"{self.scheme}:{address}{query}"


# RFC 7064 s3.1, RFC 7065 s3.1. No generic URI parser may be used; userinfo and paths do not exist.
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):"
    r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{0,5}))?"
    r"(?:\?transport=(?P<transport>[A-Za-z0-9._~-]+))?\Z"
)
_URI_SHAPE = 'write "stun:host:port" or "turn:host:port?transport=udp"; an IPv6 address in brackets'


def parse_server_uri(text: str) -> ServerUri:
    """Parse a ``stun:``, ``stuns:``, ``turn:`` or ``turns:`` URI.

    Raises PydanticCustomError (a ValueError) that says what would be right. The text as a whole is not quoted:
    people do write passwords into URIs.
    """
    if "@" in text:
        raise wrong("a server's URI holds no user name or password", "use the keys username and password")
    if "//" in text:
        raise wrong("the URI of a server has no slashes", 'write "turn:host", without "//" (RFC 7065 s3.1)')
    match = _URI.match(text)
    if match is None:
        raise wrong("not the URI of a STUN or TURN server", _URI_SHAPE)
    try:
        scheme = Scheme(match["scheme"].lower())
    except ValueError:
        raise wrong(
            f"{match['scheme']!r} is not a scheme of STUN or TURN", "write stun, stuns, turn or turns"
        ) from None
    port = int(match["port"]) if match["port"] else scheme.default_port
    if not 1 <= port <= 65535:
        raise wrong(f"{port} is not a port", "write a port from 1 to 65535")
    try:
        address = TransportAddress(match["literal"] or match["name"], port)
    except CandidateError as error:
        raise wrong(str(error), _URI_SHAPE) from None
    if match["literal"] and address.family != 6:
        raise wrong(f"{match['literal']!r} is not an IPv6 address", "only IPv6 addresses stand in brackets")
    transport = _server_transport(scheme, match["transport"])
    return ServerUri(scheme, address, transport, has_port=bool(match["port"]))


def _server_transport(scheme: Scheme, text: str | None) -> Transport | None:
    if text is None:
        return Transport.TCP if scheme.secure else None
    if not scheme.relays:
        raise wrong(f"a {scheme} URI has no transport (RFC 7064 s3.1)", "leave ?transport out")
    try:
        transport = Transport(text.lower())
    except ValueError:
        raise wrong(f"{text!r} is not a transport", "write ?transport=udp or ?transport=tcp") from None
    return transport


@dataclass(frozen=True, slots=True)
class Sources:
    """Where credentials are looked up: the caller gives the environment and how a file is read.

    ``read_file`` takes a path and returns text, or raises OSError or UnicodeError.
    """

    environ: Mapping[str, str]
    read_file: Callable[[str], str]


_REFERENCE = re.compile(r"\$(\$\{)|\$\{([^}]*)\}|\$\{")
_ENVIRON_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _expand(text: str, sources: Sources) -> str:
    def value(match: re.Match[str]) -> str:
        escaped, name = match[1], match[2]
        if escaped:
            return str(escaped)
        if name is None or not _ENVIRON_NAME.match(name):
            raise wrong("a reference to the environment is malformed", 'write "${NAME}", or "$${" for a literal "${"')
        if name not in sources.environ:
            raise wrong(f"the environment variable {name} is not set", f"set {name}, or use {{file: PATH}}")
        return sources.environ[name]

    return _REFERENCE.sub(value, text)


def read_source(path: str, sources: Sources) -> str:
    """The text of a file that the policy names. Raises a validation error of ours."""
    try:
        return sources.read_file(path)
    except OSError as error:
        raise wrong(f"cannot read {path!r}: {error.strerror or 'error'}", "name a readable file") from None
    except UnicodeError:
        raise wrong(f"{path!r} is not UTF-8 text", "name a file of text") from None


def _credential(value: object, info: ValidationInfo) -> SecretStr:
    """Text, with ``${NAME}`` expanded, or ``{file: PATH}``. Without Sources, text is taken as it stands."""
    sources = info.context if isinstance(info.context, Sources) else None
    right = 'write text, "${NAME}" or {file: PATH}'
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
    elif isinstance(value, str):
        secret = _expand(value, sources) if sources else value
    elif isinstance(value, Mapping) and list(value) == ["file"] and isinstance(path := value["file"], str):
        if sources is None:
            raise wrong("no file can be read here", "load the policy with load_policy")
        secret = read_source(path, sources).removesuffix("\n").removesuffix("\r")
    else:
        raise wrong("not a credential", f"{right}; quote numbers")
    if not secret:
        raise wrong("the credential is empty", right)
    return SecretStr(secret)


Credential = Annotated[
    SecretStr,
    PlainValidator(_credential),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string", "description": "Path of a file with the credential."}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


def _uri(value: object) -> ServerUri:
    if isinstance(value, ServerUri):
        return value
    if not isinstance(value, str):
        raise wrong("not the URI of a server", _URI_SHAPE)
    return parse_server_uri(value)


Uri = Annotated[
    ServerUri,
    PlainValidator(_uri),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^([Ss][Tt][Uu][Nn]|[Tt][Uu][Rr][Nn])[Ss]?:",
            "examples": ["stun:stun.example.org"],
        }
    ),
]


class Tls(Section):
    """TLS to a `stuns:` or `turns:` server."""

    verify: Flag = Field(default=True, description="Verify the server's certificate and name.")
    server_name: str | None = Field(default=None, description="Name to verify, if it is not the URI's host.")
    ca_file: str | None = Field(
        default=None, description="Path of a PEM file with the authorities to trust; null means the system's."
    )


class ServerPolicy(Section):
    """A STUN or TURN server. User name and password are secrets: read them with `get_secret_value()`."""

    url: Uri = Field(description="`stun:`, `stuns:`, `turn:` or `turns:` URI (RFC 7064, RFC 7065).")
    username: Credential | None = Field(default=None, description='User name: text, "${NAME}" or {file: PATH}.')
    password: Credential | None = Field(default=None, description='Password: text, "${NAME}" or {file: PATH}.')
    secret: Credential | None = Field(
        default=None,
        description="Secret shared with the server that short-lived credentials are made from, instead of `password`.",
    )
    credential_lifetime: Seconds = Field(
        default=86400.0, description="Seconds that credentials made from `secret` are good for."
    )
    tls: Tls = Field(default=Tls(), description="TLS to a `stuns:` or `turns:` server.")

    @property
    def relays(self) -> bool:
        """Whether it is a TURN server."""
        return self.url.scheme.relays
