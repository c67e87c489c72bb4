"""The scalar values a policy is made of, each with its parser, its words for an error and its JSON schema."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, TypeAlias, TypeVar

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

PortRange: TypeAlias = tuple[int, int]
"""First and last port, both included."""

_PORT_RANGE = re.compile(r"([0-9]{1,5})\s*-\s*([0-9]{1,5})\Z")
_T = TypeVar("_T")


class AddressFamily(StrEnum):
    """IP version of an address."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def of(cls, version: int) -> AddressFamily:
        """The family of IP version 4 or 6."""
        return cls.IPV4 if version == 4 else cls.IPV6

    @property
    def version(self) -> int:
        return 4 if self is AddressFamily.IPV4 else 6


def wrong(message: str, right: str) -> PydanticCustomError:
    """A validation error of ours: what is wrong, and what would be right.

    Pydantic puts braces of a message to its own use, so both parts travel as context.
    """
    return PydanticCustomError("policy", "{wrong}; {right}", {"wrong": message, "right": right})


def _port_range(value: object) -> PortRange:
    right = 'write "first-last", two ports from 1 to 65535, such as "40000-40100"'
    if isinstance(value, str) and (match := _PORT_RANGE.match(value.strip())):
        first, last = int(match[1]), int(match[2])
    elif isinstance(value, list | tuple) and len(value) == 2 and all(type(port) is int for port in value):
        first, last = value
    else:
        raise wrong("not a range of ports", right)
    for port in (first, last):
        if not 1 <= port <= 65535:
            raise wrong(f"{port} is not a port", right)
    if last < first:
        raise wrong(f"the range {first}-{last} is empty", f'the first port is the lower one: "{last}-{first}"')
    return first, last


def _network(value: object) -> IPNetwork:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    right = 'write an address or a CIDR block, such as "192.0.2.0/24" or "2001:db8::/32"'
    if not isinstance(value, str):
        raise wrong("not a CIDR block", right)
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise wrong(f"{value[:60]!r} is not a CIDR block", right) from None
    if interface.ip != interface.network.network_address:
        raise wrong(f"{value!r} has bits set after its prefix", f'write "{interface.network}"')
    return interface.network


def _distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise wrong(f"{str(value)!r} stands twice", "name each value once")
    return values


def _glob(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise wrong("not a pattern of interface names", 'write a name or a glob, such as "eth0" or "docker*"')
    return value


Seconds = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Strict(), Field(ge=0)]
WholeNumber = Annotated[int, Strict()]
PositiveCount = Annotated[int, Strict(), Field(ge=1)]
Flag = Annotated[bool, Strict()]

Ports = Annotated[
    PortRange,
    PlainValidator(_port_range),
    PlainSerializer(lambda ports: f"{ports[0]}-{ports[1]}", return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*[0-9]{1,5}\s*-\s*[0-9]{1,5}\s*$"},
                {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "minItems": 2,
                    "maxItems": 2,
                },
            ]
        }
    ),
]
Network = Annotated[
    IPNetwork,
    PlainValidator(_network),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24", "2001:db8::/32"]}),
]
Glob = Annotated[str, PlainValidator(_glob), WithJsonSchema({"type": "string", "minLength": 1})]
Distinct = AfterValidator(_distinct)
"""Annotates a tuple whose values stand once each."""
