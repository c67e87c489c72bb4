"""What the policy tests share: loading with a given environment and files, and errors as tuples."""

from __future__ import annotations

from candidates.policy import Policy, PolicyError, load_policy

ENVIRON = {"TURN_USER": "alice", "TURN_PASSWORD": "s3cret", "EMPTY": ""}
FILES = {"/run/secrets/turn": "from-file\n", "/run/secrets/empty": "\n"}


def load(text: str) -> Policy:
    """Load a policy with ENVIRON and FILES."""
    return load_policy(text, source="p.yaml", environ=ENVIRON, read_file=read_file)


def read_file(path: str) -> str:
    if path == "/run/secrets/latin-1":
        return b"\xff".decode("utf-8")
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def problems(text: str) -> list[tuple[int | None, int | None, str]]:
    """Line, column and key of everything that is wrong; nothing if the policy loads."""
    try:
        load(text)
    except PolicyError as error:
        return [(problem.line, problem.column, problem.key) for problem in error.problems]
    return []


def complaint(text: str) -> str:
    """The text of the error; empty if the policy loads."""
    try:
        load(text)
    except PolicyError as error:
        return str(error)
    return ""
