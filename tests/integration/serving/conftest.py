"""An archive of a few clips with known vectors, two of which name a file that must not be served."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.labelled_archive import write_unlabelled_archive
from tests.support.served_archive import write_served_archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory, tiny_bundle) -> tuple[Path, np.ndarray]:
    folder = tmp_path_factory.mktemp("archive")
    return folder, write_served_archive(folder, tiny_bundle)


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory, tiny_bundle) -> Path:
    """Sixty clips without labels, whose vectors lie in three groups."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_unlabelled_archive(folder, tiny_bundle)
    return folder
