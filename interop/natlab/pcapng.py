"""Packet logs as files that Wireshark, tshark and tcpdump read (pcapng, draft-ietf-opsawg-pcapng).

Each attachment of the line is an interface of the file, by its name; a packet that did not arrive says so in a comment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from interop.natlab.line import SNAP_BYTES, Attachment, Fate, Logged

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC: Final = 0x1A2B3C4D
_RAW_IP: Final = 101  # LINKTYPE_RAW
_COMMENT, _NAME = 1, 2
_UNKNOWN_LENGTH: Final = 0xFFFFFFFFFFFFFFFF


def pcapng(attachments: Sequence[Attachment], log: Iterable[Logged], wall_clock: float) -> bytes:
    """The file's bytes. ``wall_clock`` is what to add to the log's instants to get Unix time."""
    interface = struct.pack("<HHI", _RAW_IP, 0, SNAP_BYTES)
    blocks = [
        _block(_SECTION, struct.pack("<IHHQ", _MAGIC, 1, 0, _UNKNOWN_LENGTH)),
        *(_block(_INTERFACE, interface, {_NAME: attachment.name}) for attachment in attachments),
    ]
    for each in log:
        microseconds = round((each.at + wall_clock) * 1e6)
        header = struct.pack(
            "<IIIII", each.source, microseconds >> 32, microseconds & 0xFFFFFFFF, len(each.data), each.size
        )
        comments = {} if each.fate is Fate.DELIVERED else {_COMMENT: str(each.fate)}
        blocks.append(_block(_PACKET, header + _padded(each.data), comments))
    return b"".join(blocks)


def _block(type_: int, body: bytes, options: dict[int, str] | None = None) -> bytes:
    for code, text in (options or {}).items():
        value = text.encode()
        body += struct.pack("<HH", code, len(value)) + _padded(value)
    if options:
        body += bytes(4)  # the end of the options
    length = 12 + len(body)
    return struct.pack("<II", type_, length) + body + struct.pack("<I", length)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
