"""Words for the ladder: what an agent asked for, told and noted, in one short line each."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum

from candidates.candidate import Candidate, TransportAddress
from ice_tcp.core.commands import RelayPath, TcpPath, UdpPath
from ice_tcp.core.events import PairChanged, SelectedPath


def words(value: object) -> str:
    """A message of the core, briefly."""
    match value:
        case Candidate():
            kind = value.tcptype or value.transport
            return f"{value.type} {kind} {value.address} c{value.component} f{value.foundation}"
        case TransportAddress():
            return str(value)
        case UdpPath(socket, remote):
            return f"udp {socket}->{remote}"
        case TcpPath(stream):
            return f"tcp {stream}"
        case RelayPath(leg, remote):
            return f"relay {leg}->{remote}"
        case PairChanged():
            verdict = f" ({value.verdict})" if value.verdict else ""
            return f"pair {value.pair} {value.state or 'left'}{verdict}: {words(value.local)} - {words(value.remote)}"
        case SelectedPath():
            nominated = "nominated" if value.nominated else "valid"
            ends = f"{words(value.local)} - {words(value.remote)}"
            return f"{nominated} c{value.component} {words(value.path)}: {ends}"
        case Enum():
            return str(value.value)
        case bytes():
            return f"<{len(value)} bytes>"
        case _ if is_dataclass(value):
            inside = ", ".join(f"{field.name}={words(getattr(value, field.name))}" for field in fields(value))
            return f"{type(value).__name__}({inside})"
        case _:
            return str(value)
