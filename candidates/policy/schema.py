"""The JSON schema of the policy file, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from candidates.policy.model import Policy


def policy_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the policy file; contradictions between keys are beyond it.

    Point an editor's YAML support at a file of it for completion and descriptions.
    """
    return {"$schema": _Generator.schema_dialect, **Policy.model_json_schema(schema_generator=_Generator)}


class _Generator(GenerateJsonSchema):
    """Without titles that only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False
