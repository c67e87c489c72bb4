"""Files over any stream: of TCP, of `Agent.open_stream`, or of QUIC."""

from ice_tcp.transfer.files import (
    FileOffer,
    GeneratedFile,
    Receipt,
    Sink,
    Source,
    TransferError,
    receive_file,
    send_file,
)
from ice_tcp.transfer.resumable import Progress, Transferred, offer_file, take_file

__all__ = [
    "FileOffer",
    "GeneratedFile",
    "Progress",
    "Receipt",
    "Sink",
    "Source",
    "TransferError",
    "Transferred",
    "offer_file",
    "receive_file",
    "send_file",
    "take_file",
]
