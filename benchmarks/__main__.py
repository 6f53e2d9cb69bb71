"""The list of benchmarks: `python -m benchmarks`; `python -m benchmarks NAME [options]` runs one."""

import sys
from collections.abc import Sequence

from rich.table import Table

from benchmarks.harness.registry import BENCHMARKS, run_benchmark
from cluster.processes import leave, run_until_signal
from cluster.tables import text_table, wide_console


def list_benchmarks() -> Table:
    """One row per benchmark."""
    rows = [
        (name, benchmark.measures, benchmark.needs, " ".join(benchmark.parts))
        for name, benchmark in BENCHMARKS.items()
    ]
    return text_table(("name", "measures", "needs", "parts"), rows, framed=False)


def main(argv: Sequence[str] | None = None) -> int:
    """The list without arguments; errors of one line end with exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        console = wide_console()
        console.print(list_benchmarks())
        console.print("\nusage: python -m benchmarks NAME [options]", markup=False)
        return 0
    try:
        return run_until_signal(lambda: run_benchmark(arguments[0], arguments[1:]))
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    leave(main())
