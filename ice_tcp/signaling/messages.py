"""What agents say to each other through signaling: a closed union of frozen messages, each a JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from candidates.candidate import Candidate, CandidateError
from candidates.parameters import IceParameters, ParametersError
from candidates.sdp import format_candidate, parse_candidate


class MessageError(ValueError):
    """A message is malformed; the text says where, and holds nothing of what is secret."""


@dataclass(frozen=True, slots=True)
class Description:
    """Credentials and options of one ICE generation (RFC 8839 s5.3 to s5.6).

    ``fingerprint`` is the SHA-256 fingerprint of the certificate that the sender shows in QUIC or DTLS (RFC 8122 s5),
    if it has one.
    """

    parameters: IceParameters
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class CandidateFound:
    """One more candidate of the sender (RFC 8838 s4)."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class EndOfCandidates:
    """The sender will find no more candidates (RFC 8838 s13)."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something of the application's own: a name, and what JSON can carry."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)


Message: TypeAlias = Description | CandidateFound | EndOfCandidates | Note


def encode(message: Message) -> str:
    """The message as JSON on one line."""
    return json.dumps(_fields(message), separators=(",", ":"))


def _fields(message: Message) -> dict[str, Any]:
    match message:
        case Description(parameters, fingerprint):
            return {
                "type": "description",
                "ufrag": parameters.ufrag,
                "pwd": parameters.pwd,
                "options": list(parameters.options),
                "lite": parameters.lite,
                "pacing": parameters.pacing,
                "fingerprint": fingerprint,
            }
        case CandidateFound(candidate):
            return {"type": "candidate", "candidate": format_candidate(candidate)}
        case EndOfCandidates():
            return {"type": "end-of-candidates"}
        case Note(name, data):
            return {"type": "note", "name": name, "data": dict(data)}


def decode(text: str | bytes) -> Message:
    """Read what `encode` wrote. Keys that are not known are ignored. Raises MessageError."""
    try:
        fields = json.loads(text)
    except ValueError:
        raise MessageError("a message is not JSON") from None
    except RecursionError:
        raise MessageError("a message is nested too deeply") from None
    if not isinstance(fields, dict):
        raise MessageError("a message is not a JSON object")
    match fields.get("type"):
        case "description":
            return _description(fields)
        case "candidate":
            return _candidate(fields)
        case "end-of-candidates":
            return EndOfCandidates()
        case "note":
            return Note(_get(fields, "name", str), _get(fields, "data", dict))
        case other:
            raise MessageError(f"a message has the unknown type {other!r}")


def _description(fields: dict[str, Any]) -> Description:
    options = _get(fields, "options", list)
    if not all(isinstance(option, str) for option in options):
        raise MessageError("options is not a list of text")
    try:
        parameters = IceParameters(
            ufrag=_get(fields, "ufrag", str),
            pwd=_get(fields, "pwd", str),
            options=tuple(options),
            lite=_get(fields, "lite", bool),
            pacing=_get_optional(fields, "pacing", int),
        )
    except ParametersError as error:
        raise MessageError(str(error)) from None
    return Description(parameters, _get_optional(fields, "fingerprint", str))


def _candidate(fields: dict[str, Any]) -> CandidateFound:
    try:
        return CandidateFound(parse_candidate(_get(fields, "candidate", str)))
    except CandidateError as error:
        raise MessageError(f"candidate: {error}") from None


def _get(fields: dict[str, Any], key: str, kind: type) -> Any:
    value = fields.get(key)
    # A flag is a number in Python, but not in JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise MessageError(f"{key} is missing, or not what it should be")
    return value


def _get_optional(fields: dict[str, Any], key: str, kind: type) -> Any:
    return None if fields.get(key) is None else _get(fields, key, kind)
