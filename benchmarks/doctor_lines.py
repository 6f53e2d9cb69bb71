"""What to type to install what is missing."""

# onnxruntime and onnxruntime-gpu are one module: the plain install brings the first, only the second may stay.
ONNX_GPU_LINE = (
    "pip install -c constraints.txt -e '.[gpu]' && pip uninstall -y onnxruntime onnxruntime-gpu "
    "&& pip install --no-deps onnxruntime-gpu"
)


def pip_line(extra: str = "") -> str:
    """The line that installs the tested versions, with one of the extras of pyproject.toml."""
    return f"pip install -c constraints.txt -e {repr(f'.[{extra}]') if extra else '.'}"
