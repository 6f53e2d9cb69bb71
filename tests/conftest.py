"""Skips GPU tests where there is no GPU, unless FAIL_WITHOUT_GPU=1 says that there must be one."""

import os

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available() or os.environ.get("FAIL_WITHOUT_GPU") == "1":
        return
    for item in items:
        if item.get_closest_marker("needs_gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
