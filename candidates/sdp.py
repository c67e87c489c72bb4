"""Candidates and ICE attributes as SDP text, both ways (RFC 8839 s5, RFC 6544 s4.5, RFC 8840 s8)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from candidates.candidate import (
    RESERVED_EXTENSIONS,
    Candidate,
    CandidateError,
    CandidateType,
    TcpType,
    Transport,
    TransportAddress,
)
from candidates.parameters import IceParameters, ParametersError

END_OF_CANDIDATES: Final = "end-of-candidates"
"""The attribute that says that no more candidates follow (RFC 8840 s8)."""

MAX_SENT_UFRAG: Final = 32
"""Characters that a ufrag may have when it is sent (RFC 8839 s5.4)."""

_PREFIX = re.compile(r"(a=)?(candidate:)?", re.IGNORECASE)
_LEADING_FIELDS = ("foundation", "component", "transport", "priority", "address", "port", "typ", "type")
_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+\Z")
_NUMBER = re.compile(r"[0-9]{1,10}\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")


class UnsupportedCandidateError(CandidateError):
    """A well-formed candidate of a kind that is not known here: an agent ignores it (RFC 8839 s5.1)."""


class UnknownTransportError(UnsupportedCandidateError):
    """Its transport is neither UDP nor TCP."""


class UnknownTypeError(UnsupportedCandidateError):
    """Its type is not host, srflx, prflx or relay."""


def parse_candidate(text: str) -> Candidate:
    """The candidate that a ``candidate`` attribute describes.

    ``text`` may start with ``a=candidate:``, ``candidate:``, ``a=`` or the foundation, and end with CR and LF.
    Keywords, transports, types and tcptypes are taken in any case; pairs after the type in any order. An IPv6 zone
    means something to its sender only (RFC 4007 s11) and is dropped. Of ``raddr`` and ``rport`` the one that is
    missing is filled in with the value that hides it: ``0.0.0.0`` or ``::``, and 9 (RFC 8839 s9.1).

    A candidate with a host name is parsed like any other; ask ``may_use`` before using it.

    Raises UnsupportedCandidateError for a candidate to ignore, any other CandidateError for a malformed one; its
    ``field`` names the culprit.
    """
    if not text.isascii():
        raise CandidateError("candidate", f"{text!r} is not ASCII")
    body = text.rstrip("\r\n")
    tokens = _PREFIX.sub("", body, count=1).split(" ")
    for name, token in zip_longest(_LEADING_FIELDS, tokens[: len(_LEADING_FIELDS)], fillvalue=""):
        if not token:
            raise CandidateError(name, "is missing")
    foundation, component, transport_name, priority, host, port, typ, type_name = tokens[: len(_LEADING_FIELDS)]
    if typ.lower() != "typ":
        raise CandidateError("typ", f"is missing, {typ!r} stands in its place")
    transport = _transport(transport_name)
    candidate_type = _type(type_name)
    known, extensions = _extensions(tokens[len(_LEADING_FIELDS) :])
    address = _address(host, port, ("address", "port"))
    return Candidate(
        foundation=foundation,
        component=_number("component", component),
        transport=transport,
        priority=_number("priority", priority),
        address=address,
        type=candidate_type,
        related_address=_related_address(known, address),
        tcptype=_tcptype(known.get("tcptype")),
        generation=_optional_number("generation", known),
        ufrag=known.get("ufrag"),
        network_id=_optional_number("network-id", known),
        network_cost=_optional_number("network-cost", known),
        extensions=extensions,
    )


def format_candidate(candidate: Candidate) -> str:
    """The ``candidate`` attribute, from ``candidate:`` on; a line of SDP has ``a=`` before it.

    ``parse_candidate`` of it gives an equal candidate, except for IPv6 zones, which never leave the host.
    """
    address, related = candidate.address, candidate.related_address
    pairs: list[tuple[str, object]] = [("typ", candidate.type)]
    if related is not None:
        pairs += [("raddr", _without_zone(related.host)), ("rport", related.port)]
    optional = (
        ("tcptype", candidate.tcptype),
        ("generation", candidate.generation),
        ("ufrag", candidate.ufrag),
        ("network-id", candidate.network_id),
        ("network-cost", candidate.network_cost),
    )
    pairs += [(name, value) for name, value in optional if value is not None]
    pairs += candidate.extensions
    leading = (
        f"candidate:{candidate.foundation} {candidate.component} {candidate.transport.upper()} "
        f"{candidate.priority} {_without_zone(address.host)} {address.port}"
    )
    return " ".join([leading, *(f"{name} {value}" for name, value in pairs)])


def may_use(candidate: Candidate, *, mdns: bool = False) -> bool:
    """Whether an agent may use a remote candidate, as far as its address is concerned.

    One with a host name is ignored (RFC 8839 s5.1). With ``mdns`` the caller resolves ``.local`` names, the
    extension of draft-ietf-mmusic-mdns-ice-candidates.
    """
    return not candidate.address.is_name or (mdns and candidate.address.is_mdns)


@dataclass(frozen=True, slots=True)
class IceDescription:
    """The ICE part of a session description, or of a trickled fragment of one (RFC 8840 s9).

    ``ignored`` says which candidates were left out because their transport or type is not known.
    """

    parameters: IceParameters
    candidates: tuple[Candidate, ...] = ()
    end_of_candidates: bool = False
    ignored: tuple[UnsupportedCandidateError, ...] = field(default=(), compare=False)


def parse_description(text: str, *, media: int = 0) -> IceDescription:
    """The ICE attributes of the session and of the ``media``-th media section, counted from 0.

    Text without any ``m=`` line is one section. Other lines are skipped, and each ``a=`` may be missing. For
    credentials the media level takes precedence over the session level (RFC 8839 s5.4).

    Raises ParametersError, and CandidateError for a malformed candidate.
    """
    session, sections = _split_sections(text)
    if media < 0 or media >= max(len(sections), 1):
        raise ParametersError("m", f"section {media} is not among the {len(sections)} of the description")
    levels = [_Attributes(session), _Attributes(sections[media] if sections else ())]
    values: dict[str, str] = {}
    for level in levels:
        values |= level.values
    for name in ("ice-ufrag", "ice-pwd"):
        if name not in values:
            raise ParametersError(name, "is missing (RFC 8839 s5.4)")
    return IceDescription(
        IceParameters(
            ufrag=values["ice-ufrag"],
            pwd=values["ice-pwd"],
            options=tuple(dict.fromkeys(option for level in levels for option in level.options)),
            lite=any(level.lite for level in levels),
            pacing=_pacing(values.get("ice-pacing")),
        ),
        candidates=tuple(candidate for level in levels for candidate in level.candidates),
        end_of_candidates=any(level.end_of_candidates for level in levels),
        ignored=tuple(error for level in levels for error in level.ignored),
    )


def format_description(description: IceDescription) -> str:
    """The attributes as lines of SDP, each ended by CR and LF, for one media section.

    Raises ParametersError for a ufrag that is too long to be sent.
    """
    lines = format_parameters(description.parameters)
    lines += [f"a={format_candidate(candidate)}" for candidate in description.candidates]
    if description.end_of_candidates:
        lines.append(f"a={END_OF_CANDIDATES}")
    return "".join(f"{line}\r\n" for line in lines)


def format_parameters(parameters: IceParameters) -> list[str]:
    """The parameters as lines of SDP, without line ends; ``ice-lite`` and ``ice-pacing`` belong to the session level.

    Raises ParametersError for a ufrag that is too long to be sent.
    """
    if len(parameters.ufrag) > MAX_SENT_UFRAG:
        raise ParametersError("ice-ufrag", f"has more than {MAX_SENT_UFRAG} characters (RFC 8839 s5.4)")
    lines = ["a=ice-lite"] if parameters.lite else []
    if parameters.pacing is not None:
        lines.append(f"a=ice-pacing:{parameters.pacing}")
    lines += [f"a=ice-ufrag:{parameters.ufrag}", f"a=ice-pwd:{parameters.pwd}"]
    if parameters.options:
        lines.append(f"a=ice-options:{' '.join(parameters.options)}")
    return lines


class _Attributes:
    """The ICE attributes of one level of a description, as they stand there."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.values: dict[str, str] = {}
        self.options: list[str] = []
        self.candidates: list[Candidate] = []
        self.ignored: list[UnsupportedCandidateError] = []
        self.lite = False
        self.end_of_candidates = False
        for line in lines:
            self._take(line.removeprefix("a="))

    def _take(self, attribute: str) -> None:
        name, _, value = attribute.partition(":")
        match name.strip().lower():
            case "candidate":
                self._take_candidate(attribute)
            case "ice-ufrag" | "ice-pwd" | "ice-pacing" as name:
                if name in self.values:
                    raise ParametersError(name, "is given twice")
                self.values[name] = value.strip()
            case "ice-options":
                self.options += value.split()
            case "ice-lite":
                self.lite = True
            case "end-of-candidates":
                self.end_of_candidates = True

    def _take_candidate(self, attribute: str) -> None:
        try:
            self.candidates.append(parse_candidate(attribute))
        except UnsupportedCandidateError as error:
            self.ignored.append(error)


def _split_sections(text: str) -> tuple[list[str], list[list[str]]]:
    session: list[str] = []
    sections: list[list[str]] = []
    current = session
    for line in _LINE_END.split(text):
        if line.startswith("m="):
            current = []
            sections.append(current)
        else:
            current.append(line)
    return session, sections


def _pacing(text: str | None) -> int | None:
    if text is None:
        return None
    if not _NUMBER.match(text):
        raise ParametersError("ice-pacing", f"{text!r} is not a number of 1 to 10 digits (RFC 8839 s5.5)")
    return int(text)


def _transport(token: str) -> Transport:
    _check_token("transport", token)
    try:
        return Transport(token.lower())
    except ValueError:
        raise UnknownTransportError("transport", f"{token!r} is not known, the candidate is to be ignored") from None


def _type(token: str) -> CandidateType:
    _check_token("type", token)
    try:
        return CandidateType(token.lower())
    except ValueError:
        raise UnknownTypeError("type", f"{token!r} is not known, the candidate is to be ignored") from None


def _tcptype(token: str | None) -> TcpType | None:
    if token is None:
        return None
    try:
        return TcpType(token.lower())
    except ValueError:
        raise CandidateError("tcptype", f"{token!r} is not active, passive or so (RFC 6544 s4.5)") from None


def _extensions(tokens: list[str]) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    if len(tokens) % 2:
        # A value may be empty (*VCHAR), a name may not: so a lone space at the end is only that.
        if tokens[-1]:
            name = tokens[-1].lower()
            raise CandidateError(name if name in RESERVED_EXTENSIONS else "extension", f"{tokens[-1]!r} has no value")
        tokens = tokens[:-1]
    known: dict[str, str] = {}
    unknown: list[tuple[str, str]] = []
    for name, value in zip(tokens[::2], tokens[1::2], strict=True):
        keyword = name.lower()
        if keyword not in RESERVED_EXTENSIONS:
            unknown.append((name, value))
        elif keyword in known:
            raise CandidateError(keyword, "is given twice")
        else:
            known[keyword] = value
    return known, tuple(unknown)


def _related_address(known: dict[str, str], address: TransportAddress) -> TransportAddress | None:
    if "raddr" not in known and "rport" not in known:
        return None
    hidden_host = "::" if address.family == 6 else "0.0.0.0"  # noqa: S104 - it is not bound, it stands for "not told"
    return _address(known.get("raddr", hidden_host), known.get("rport", "9"), ("raddr", "rport"))


def _address(host: str, port: str, fields: tuple[str, str]) -> TransportAddress:
    host_field, port_field = fields
    number = _number(port_field, port)
    try:
        return TransportAddress(_without_zone(host), number)
    except CandidateError as error:
        raise CandidateError(host_field if error.field == "address" else port_field, error.problem) from None


def _without_zone(host: str) -> str:
    return host.partition("%")[0] if ":" in host else host


def _optional_number(name: str, known: dict[str, str]) -> int | None:
    return _number(name, known[name]) if name in known else None


def _number(name: str, text: str) -> int:
    if not _NUMBER.match(text):
        raise CandidateError(name, f"{text!r} is not a number of 1 to 10 digits (RFC 8839 s5.1)")
    return int(text)


def _check_token(name: str, text: str) -> None:
    if not _TOKEN.match(text):
        raise CandidateError(name, f"{text!r} is not a token (RFC 8839 s5.1)")
