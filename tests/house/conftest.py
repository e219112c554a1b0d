"""Fixtures of the house tests: where the project and its package are."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of pyproject.toml."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def package(project: Path) -> Path:
    return project / "taskengine"
