"""The list of benchmarks: `python -m benchmarks`; `python -m benchmarks NAME [options]` runs one."""

import signal
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.harness.registry import BENCHMARKS, run_benchmark


def list_benchmarks() -> Table:
    """One row per benchmark."""
    table = Table("name", "measures", "needs", "parts", box=None, pad_edge=False)
    for name, benchmark in BENCHMARKS.items():
        table.add_row(name, benchmark.measures, benchmark.needs, " ".join(benchmark.parts))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """The list without arguments; errors of one line end with exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(list_benchmarks())
        console.print("\nusage: python -m benchmarks NAME [options]", markup=False)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run_benchmark(arguments[0], arguments[1:])
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
