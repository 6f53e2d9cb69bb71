"""What only reads a card must not wait for torch, nor hold its memory in every worker."""

import subprocess
import sys

_READERS = (
    "encoders.backends.onnx_backend",
    "encoders.stages.base",
    "indexing.pipeline.decode_stage",
    "encoders.stages.embed_stage",
    "indexing.pipeline.verify",
    "indexing.pipeline.write_stage",
    "training.configs",
)


def test_indexing_with_onnx_starts_without_torch():
    code = f"import sys, {', '.join(_READERS)}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
