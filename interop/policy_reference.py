"""Renders docs/policy.md from the models of the policy: ``python -m interop.policy_reference > docs/policy.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from candidates.policy import VPN_NAMES, policy_schema

_INTRODUCTION = """\
# Policy reference

One YAML file decides everything that a deployer decides; code has no other knobs. Every key has a default, and
an empty file means exactly `candidates/default.yaml`. Spans of time are seconds, sizes are bytes. Lists replace
the default, they do not add to it.

```python
import os, pathlib
from candidates.policy import Policy, PolicyError, load_policy

policy = Policy.default()
policy = load_policy(
    text, source="policy.yaml", environ=os.environ, read_file=lambda path: pathlib.Path(path).read_text("utf-8")
)
print(policy.explain(local=candidate, remote=other))  # which rule kept or removed them, in words
```

All that is wrong with a file is told at once, each with file, line, column and key, and with what would be right:
unknown keys, wrong types, values out of range, duplicate keys, and keys that contradict each other (only relay
without a TURN server, lite with simultaneous open, blocks that leave no address, and so on).

Scalars are read by the core schema of YAML 1.2: `true` and `false` are the only words for a flag. Anchors and
aliases work, within bounds; tags and merge keys are not used.

Credentials (`username`, `password`, `secret`, `redis`) are text, with `${NAME}` replaced from the environment
(`$${` is a literal `${`), or `{file: PATH}`, whose last line break is dropped. They are never shown in errors, texts or
the schema.

`candidates.policy.policy_schema()` gives the JSON schema for editors.

An address of this machine is used when `interfaces` and `addresses` keep it; a local candidate, when `transports`,
`candidate_types`, `tcp_types` and `address_families` keep it; the peer is told of it when `advertise` keeps it, too.
A candidate of the peer is used when `remote` keeps it. Exclusion goes before inclusion, and denial before allowance.

"""


def policy_reference() -> str:
    """The policy reference as Markdown."""
    schema = policy_schema()
    text = _INTRODUCTION + "## Top level\n\n" + "".join(_table(schema, schema["$defs"]))
    text += "".join(_sections(schema, schema["$defs"], ""))
    return f"{text.rstrip()}\n\nNames that look like a VPN's: {', '.join(f'`{glob}`' for glob in VPN_NAMES)}.\n"


def _sections(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        section = _section(field, definitions)
        if section is not None:
            key = f"{prefix}{name}{'[]' if field.get('type') == 'array' else ''}"
            yield f"\n## `{key}`\n\n{section['description']}\n\n"
            yield from _table(section, definitions)
            yield from _sections(section, definitions, f"{key}.")


def _table(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|\n"
    for name, field in schema["properties"].items():
        section = _section(field, definitions)
        meaning = field.get("description") or (section or {}).get("description", "")
        nested = section is not None and field.get("type") != "array"
        default = "see below" if nested else f"`{_text(field['default'])}`" if "default" in field else "must be given"
        yield f"| `{name}` | {_value(field, definitions)} | {default} | {meaning} |\n"


def _section(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the section that a field holds, or whose list it holds."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref")
    target: dict[str, Any] | None = definitions[reference.rpartition("/")[2]] if reference else None
    return target if target and "properties" in target else None


def _value(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What may be written, in words."""
    if "$ref" in field:
        return _value(definitions[field["$ref"].rpartition("/")[2]], definitions)
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if "anyOf" in field:
        return " or ".join(_value(option, definitions) for option in field["anyOf"])
    if field["type"] == "array":
        return f"list of {_value(field['items'], definitions)}"
    if field["type"] in ("number", "integer"):
        return ("whole number" if field["type"] == "integer" else "number") + _bounds(field)
    return {"object": "mapping", "string": "text", "boolean": "flag", "null": "`null`"}[str(field["type"])]


def _bounds(field: dict[str, Any]) -> str:
    minimum, maximum = field.get("minimum"), field.get("maximum")
    if maximum is not None:
        return f", {minimum} to {maximum}"
    return f", at least {minimum}" if minimum is not None else f" over {field['exclusiveMinimum']}"


def _text(value: object) -> str:
    """A default as it is written in YAML."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{', '.join(map(_text, value))}]"
        case "*":
            return '"*"'
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(policy_reference())
