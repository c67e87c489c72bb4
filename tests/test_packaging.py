"""The wheel: what is installed from it has everything that it needs, and is the package of this clone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("candidates", "ice_tcp", "interop")
FETCHED = ("__pycache__", "node_modules", "sources")
"""Directories that tools make beside the sources, and that git does not have."""


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """What a program prints; ``path`` goes before whatever is installed, and coverage is not to count its files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(  # noqa: S603 - the commands are those below
        command, cwd=cwd, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this clone: setuptools writes beside the sources."""
    copied = tmp_path_factory.mktemp("copied")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, copied)
    for package in (*PACKAGES, "tests"):
        copytree(ROOT / package, copied / package, ignore=ignore_patterns(*FETCHED))
    run(sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')", cwd=copied)
    (built,) = (copied / "dist").iterdir()
    return built


def test_a_wheel_has_every_module_its_data_and_nothing_else(wheel: Path) -> None:
    files = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not set(FETCHED) & set(path.parts)
    }
    assert files == wanted
    assert {f"{package}/py.typed" for package in PACKAGES} <= files


def test_a_wheel_has_the_licence(wheel: Path) -> None:
    (licence,) = [name for name in ZipFile(wheel).namelist() if name.endswith("LICENSE")]
    assert ZipFile(wheel).read(licence) == (ROOT / "LICENSE").read_bytes()


def test_what_a_wheel_installs_works_by_itself(wheel: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", "--target", tmp_path, wheel, cwd=tmp_path)
    where = run(sys.executable, "-c", "import ice_tcp; print(ice_tcp.__file__)", cwd=tmp_path, path=tmp_path)
    assert where.strip() == str(tmp_path / "ice_tcp" / "__init__.py")
    policy = run(tmp_path / "bin" / "ice-tcp", "policy", "default", cwd=tmp_path, path=tmp_path)
    assert policy == (ROOT / "candidates" / "default.yaml").read_text("utf-8")
    found = run(tmp_path / "bin" / "ice-tcp", "conformance", "--section", "8489-14.2", cwd=tmp_path, path=tmp_path)
    assert "2 passed" in found
