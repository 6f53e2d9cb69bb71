"""Which bad inputs were tried, and what does each of them get to hear? A clear error, never a traceback without a cause.

Every input is made from a correct file with one mistake in it, and read by what reads it in earnest.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.bad_inputs import BAD_INPUTS


@dataclass(frozen=True, kw_only=True, slots=True)
class TriedInput:
    """What one bad input led to."""

    name: str
    error: str
    is_clear: bool
    """A ValueError that says what is wrong and where; anything else is a failure of ours."""


def try_bad_inputs() -> list[TriedInput]:
    """All of them, each in an empty folder."""
    return [try_bad_input(name, attempt) for name, attempt in BAD_INPUTS]


def try_bad_input(name: str, attempt: Callable[[Path], object]) -> TriedInput:
    """One of them. What is no ValueError is told, not raised."""
    with tempfile.TemporaryDirectory(prefix="bad-input-") as folder:
        try:
            attempt(Path(folder))
        except ValueError as error:
            said = str(error).replace(f"{folder}/", "")
            return TriedInput(name=name, error=said, is_clear=len(said) > 10)
        except Exception as error:  # noqa: BLE001 - the table must tell of it
            return TriedInput(name=name, error=repr(error), is_clear=False)
    return TriedInput(name=name, error="it was accepted", is_clear=False)


def main() -> int:
    """Prints the table; exit status 1 if an input got no clear error."""
    tried = try_bad_inputs()
    table = Table("bad input", "what it gets to hear")
    for one in tried:
        table.add_row(one.name, one.error if one.is_clear else f"NOT CLEAR: {one.error}")
    Console(file=sys.stdout, width=160).print(table, markup=False)
    num_clear = sum(one.is_clear for one in tried)
    sys.stdout.write(f"{len(tried)} bad inputs, {num_clear} clear errors\n")
    return int(num_clear < len(tried))


if __name__ == "__main__":
    raise SystemExit(main())
