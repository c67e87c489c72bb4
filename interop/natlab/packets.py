"""Packets in words: addresses, TCP flags and STUN messages of a raw IP packet, perhaps cut short."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from typing import Final

from interop.natlab.line import Attachment, Fate, Logged

_TCP, _UDP = 6, 17
_PROTOCOLS: Final = {1: "ICMP", 58: "ICMPv6"}
_FLAGS: Final = ((0x02, "SYN"), (0x01, "FIN"), (0x04, "RST"), (0x10, "ACK"))
_COOKIE: Final = b"\x21\x12\xa4\x42"
_METHODS: Final = {
    0x001: "Binding",
    0x003: "Allocate",
    0x004: "Refresh",
    0x006: "Send",
    0x007: "Data",
    0x008: "CreatePermission",
    0x009: "ChannelBind",
    0x00A: "Connect",
    0x00B: "ConnectionBind",
    0x00C: "ConnectionAttempt",
}
_CLASSES: Final = {0x000: "request", 0x010: "indication", 0x100: "success", 0x110: "error"}
_USE_CANDIDATE: Final = 0x0025
_FRAME_BYTES: Final = 2


def describe(packet: bytes) -> str:
    """What a person wants to know of an IP packet: ``192.0.2.1:5000 > 192.0.2.2:3478 UDP Binding request``."""
    if not packet or (packet[0] >> 4 == 4 and len(packet) < 20) or (packet[0] >> 4 == 6 and len(packet) < 40):
        return f"{len(packet)} bytes that are no IP packet"
    if packet[0] >> 4 == 4:
        protocol, source, target = packet[9], packet[12:16], packet[16:20]
        total = struct.unpack_from("!H", packet, 2)[0] - (packet[0] & 15) * 4
        payload = packet[(packet[0] & 15) * 4 :]
    else:
        protocol, source, target = packet[6], packet[8:24], packet[24:40]
        total = struct.unpack_from("!H", packet, 4)[0]
        payload = packet[40:]
    if protocol not in (_TCP, _UDP) or len(payload) < 8:
        name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
        return f"{ipaddress.ip_address(source)} > {ipaddress.ip_address(target)} {name}, {total} bytes"
    ports = struct.unpack_from("!HH", payload)
    what = _tcp(payload, total) if protocol == _TCP else f"UDP {_content(payload[8:], total - 8)}"
    return f"{_endpoint(source, ports[0])} > {_endpoint(target, ports[1])} {what}"


def _endpoint(host: bytes, port: int) -> str:
    text = str(ipaddress.ip_address(host))
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def _tcp(segment: bytes, total: int) -> str:
    if len(segment) < 20:
        return "TCP"
    flags = " ".join(name for bit, name in _FLAGS if segment[13] & bit)
    header = (segment[12] >> 4) * 4
    size = total - header
    return f"TCP {flags}" + (f" {_content(segment[header:], size)}" if size > 0 else "")


def _content(data: bytes, size: int) -> str:
    """A STUN message, bare or in an RFC 4571 frame, or so many bytes."""
    framed = data[_FRAME_BYTES:]
    for message in (data, framed):
        if len(message) >= 20 and message[4:8] == _COOKIE and message[0] < 0x40:
            return _stun(message)
    return f"{size} bytes"


def _stun(message: bytes) -> str:
    type_ = struct.unpack_from("!H", message)[0]
    method = type_ & 0x000F | (type_ & 0x00E0) >> 1 | (type_ & 0x3E00) >> 2
    name = _METHODS.get(method, f"method {method:#05x}")
    nominates = _USE_CANDIDATE in _attributes(message)
    return f"{name} {_CLASSES[type_ & 0x110]}" + (", USE-CANDIDATE" if nominates else "")


def _attributes(message: bytes) -> set[int]:
    """The types of the attributes of a STUN message, as far as there is one."""
    found = set()
    end = min(len(message), 20 + struct.unpack_from("!H", message, 2)[0])
    at = 20
    while at + 4 <= end:
        type_, length = struct.unpack_from("!HH", message, at)
        found.add(type_)
        at += 4 + (length + 3) // 4 * 4
    return found


def ladder(log: Sequence[Logged], attachments: Sequence[Attachment], zero: float) -> list[str]:
    """A line for each packet, with milliseconds since ``zero``: when it left, when it arrived, or what became of it."""
    lines = []
    for each in log:
        target = attachments[each.target].name if each.target is not None else "nowhere"
        arrival = f"{1000 * (each.due_at - zero):9.1f}" if each.fate is Fate.DELIVERED else f"{each.fate:>9}"
        way = f"{attachments[each.source].name} > {target}"
        lines.append(f"{1000 * (each.at - zero):9.1f} {arrival}  {way:<18} {describe(each.data)}")
    return lines
