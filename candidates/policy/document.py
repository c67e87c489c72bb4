"""YAML text to plain values that remember where they stood.

The tree is built from parser events, without recursion, and is bounded in size and depth: neither deep nesting
nor aliases of aliases make it grow (a "billion laughs"). Scalars are read by the core schema of YAML 1.2, so
``no`` and ``on`` are text. Tags and merge keys are not used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, TypeAlias

import yaml

from candidates.policy.errors import KeyPath, PolicyError, Problem, dotted

MAX_CHARACTERS = 2**20
MAX_VALUES = 50_000
MAX_DEPTH = 32

Scalar: TypeAlias = str | int | float | bool | None
Plain: TypeAlias = "Scalar | list[Plain] | dict[str, Plain]"
Loader: TypeAlias = "type[yaml.SafeLoader] | type[yaml.CSafeLoader]"

LOADER: Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
# YAML 1.2 s5.1, c-printable
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Mark(Protocol):
    """PyYAML's mark, of either loader; counted from 0."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, counted from 1."""

    line: int
    column: int


@dataclass(slots=True)
class _Node:
    place: Place
    path: KeyPath
    value: Scalar | list[_Node] | dict[str, tuple[Place, _Node]] = None
    size: int = 1
    height: int = 1
    anchor: str | None = None
    key: tuple[str, Place] | None = None
    """The key that was read last, while its value is awaited."""


class Document:
    """A parsed policy file. ``problems`` are what is wrong with it although it could be read."""

    def __init__(self, root: _Node, problems: list[Problem]) -> None:
        self.problems = problems
        self._root = root

    @property
    def data(self) -> Plain:
        """The values, without places; a file of nothing but comments is an empty mapping."""
        return {} if self._root.value is None else _plain(self._root)

    def place(self, path: KeyPath, *, of_key: bool = False) -> Place:
        """Where the value at a path stands, or its key; where a part is missing, its nearest parent."""
        node, place = self._root, self._root.place
        for part in path:
            if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
                key_place, node = node.value[part]
                place = key_place if of_key else node.place
            elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                place = node.place
            else:
                break
        return place


def read_document(text: str, source: str, *, loader: Loader = LOADER) -> Document:
    """Parse one YAML document; an empty text is an empty mapping.

    Raises PolicyError where it cannot be read on: syntax, tags, size.
    """
    if len(text) > MAX_CHARACTERS:
        raise PolicyError(
            [Problem(source, 1, 1, "", f"{len(text)} characters", f"a policy has at most {MAX_CHARACTERS}")]
        )
    if match := _UNPRINTABLE.search(text):
        before = text[: match.start()]
        place = Place(before.count("\n") + 1, match.start() - before.rfind("\n"))
        problem = Problem(
            source, place.line, place.column, "", f"the character {match[0]!r} is not allowed in YAML", "remove it"
        )
        raise PolicyError([problem])
    # libyaml reads ahead and has limits of its own: it may give up before it has told of what we refuse earlier. So
    # what it cannot read is left to the loader in Python, which tells event by event.
    with suppress(yaml.MarkedYAMLError):
        return _document(text, source, loader)
    try:
        return _document(text, source, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise PolicyError([_syntax_problem(error, source)]) from None


def _document(text: str, source: str, loader: Loader) -> Document:
    builder = _Builder(source)
    for event in yaml.parse(text, Loader=loader):
        builder.take(event)
    return Document(builder.root or _Node(Place(1, 1), (), {}), builder.problems)


def _syntax_problem(error: yaml.MarkedYAMLError, source: str) -> Problem:
    place = _place(error.problem_mark or error.context_mark)
    # The handle may be the beginning of an unquoted password.
    problem = re.sub("(undefined tag handle).*", r"\1", error.problem or "not YAML")
    context = f"{error.context}: " if error.context else ""
    return Problem(
        source,
        place.line,
        place.column,
        "",
        f"YAML syntax: {context}{problem}",
        "indent with spaces, write 'key: value', and quote text that has special characters",
    )


@dataclass(slots=True)
class _Builder:
    """Builds the tree; the stack holds the open lists and mappings."""

    source: str
    root: _Node | None = None
    problems: list[Problem] = field(default_factory=list)
    stack: list[_Node] = field(default_factory=list)
    anchors: dict[str | None, _Node] = field(default_factory=dict)
    values: int = 0
    """Values so far, each use of an alias counted."""

    def take(self, event: yaml.Event) -> None:
        place = _place(event.start_mark)
        match event:
            case yaml.ScalarEvent() | yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                if event.tag is not None:
                    self._fail(place, "a tag", "quote text that begins with '!'")
                self._begin(event, place)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._end(self.stack.pop())
            case yaml.AliasEvent():
                self._alias(event, place)
            case yaml.DocumentStartEvent():
                if self.root is not None:
                    self._fail(place, "a second document", "keep one document in a file")

    def _begin(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, place: Place) -> None:
        if isinstance(event, yaml.ScalarEvent) and self._awaits_key:
            self._key(event, place)
            return
        node = _Node(place, self._path(), anchor=event.anchor)
        self._fit(place, node)
        if isinstance(event, yaml.ScalarEvent):
            node.value = _scalar(event.value) if event.implicit[0] else event.value
            self._end(node)
            return
        if self._awaits_key:
            self._fail(place, "a key that is no text", "write 'key: value'")
        node.value = [] if isinstance(event, yaml.SequenceStartEvent) else {}
        self.stack.append(node)

    def _key(self, event: yaml.ScalarEvent, place: Place) -> None:
        if event.value == "<<" and event.implicit[0]:
            self._fail(place, "a merge key", "repeat the keys; YAML 1.2 has no merge")
        if event.anchor is not None:
            self._fail(place, "an anchor on a key", "put it on the value")
        self.stack[-1].key = (event.value, place)

    def _alias(self, event: yaml.AliasEvent, place: Place) -> None:
        if self._awaits_key:
            self._fail(place, "an alias as a key", "write 'key: value'")
        target = self.anchors.get(event.anchor)
        if target is None:
            # Not named here: it may be an unquoted password.
            self._fail(place, "an alias without an anchor before it", "quote text that begins with '*'")
        self._fit(place, target)
        self._add(target)

    def _end(self, node: _Node) -> None:
        if node.anchor is not None:
            self.anchors[node.anchor] = node
        self._add(node)

    def _add(self, node: _Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict) and parent.key is not None:
            (key, place), parent.key = parent.key, None
            if key in parent.value:
                first = parent.value[key][0]
                where = dotted((*parent.path, key))
                self._report(place, where, "the key stands twice", f"keep one; the first is in line {first.line}")
            else:
                parent.value[key] = (place, node)

    @property
    def _awaits_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def _path(self) -> KeyPath:
        if not self.stack:
            return ()
        parent = self.stack[-1]
        if isinstance(parent.value, list):
            return (*parent.path, len(parent.value))
        return (*parent.path, parent.key[0]) if parent.key else parent.path

    def _fit(self, place: Place, node: _Node) -> None:
        self.values += node.size
        if self.values > MAX_VALUES:
            self._fail(
                place, "the policy is too large", f"at most {MAX_VALUES} values are read, each use of an alias counted"
            )
        if len(self.stack) + node.height > MAX_DEPTH:
            self._fail(place, "the nesting is too deep", f"at most {MAX_DEPTH} levels are read")

    def _report(self, place: Place, key: str, wrong: str, right: str) -> None:
        self.problems.append(Problem(self.source, place.line, place.column, key, wrong, right))

    def _fail(self, place: Place, wrong: str, right: str) -> NoReturn:
        self._report(place, dotted(self._path()), wrong, right)
        raise PolicyError(self.problems)


def _place(mark: _Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _scalar(text: str) -> Scalar:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    if _NOT_FINITE.match(text):
        return float(text.replace(".", ""))
    return text


def _plain(node: _Node) -> Plain:
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, (_, value) in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(value) for value in node.value]
    return node.value
