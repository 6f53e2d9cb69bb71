"""How a text stands in a filter expression of Milvus."""

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


def quoted(text: str) -> str:
    """Any text as a literal that both Milvus Lite and the server read back as itself.

    Lite knows no escape of other control characters and takes them as they are.
    """
    return f'"{text.translate(_ESCAPES)}"'
