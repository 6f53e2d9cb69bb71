"""Diffs of the documentation, read and applied to a copy of the tree."""

import re
from pathlib import Path


def diffs_by_heading(text: str) -> dict[str, str]:
    """The diff below each heading of the third level that has one."""
    diffs: dict[str, str] = {}
    for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]:
        _, has_diff, rest = section.partition("```diff\n")
        if has_diff:
            diffs[section.partition("\n")[0]] = rest.partition("\n```")[0] + "\n"
    return diffs


def apply_diff(root: Path, diff: str) -> None:
    """Change the files below `root`. A context line is looked for after the one before it; ValueError where it is missing."""
    for part in re.split(r"^--- [^\n]+\n", diff, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        path = root / head.removeprefix("+++ b/")
        lines = path.read_text().splitlines() if path.exists() else []
        done: list[str] = []  # what lies before the next hunk
        for hunk in re.split(r"^@@[^\n]*\n", body, flags=re.MULTILINE)[1:]:
            changed, lines = _apply_hunk(lines, hunk.splitlines(), str(path))
            done += changed
        lines = done + lines
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def _apply_hunk(lines: list[str], hunk: list[str], name: str) -> tuple[list[str], list[str]]:
    """The lines up to the end of the hunk, changed, and those after it."""
    result: list[str] = []
    position = 0
    added: list[str] = []  # before the first line of context: placed just above it
    has_context = False
    for line in hunk:
        kind, text = line[:1], line[1:]
        if kind == "+" and not has_context:
            added.append(text)
        elif kind == "+":
            result.append(text)
        elif text.strip():
            try:
                found_at = lines.index(text, position)
            except ValueError:
                raise ValueError(f"{name} does not hold {text!r} where the diff needs it") from None
            result += lines[position:found_at]
            if not has_context:
                result += added
            result += [text] if kind == " " else []
            position, has_context = found_at + 1, True
    if not has_context:
        return [*lines, *added], []
    return result, lines[position:]
