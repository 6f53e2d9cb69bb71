"""The small bundle of the indexing tests."""

import importlib.util
from pathlib import Path

import pytest

_PLACE = Path(__file__).parent.parent / "indexing" / "conftest.py"


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("indexing_fixtures", _PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "one", seed=1)
