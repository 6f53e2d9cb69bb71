"""The entry point: `tfcovr COMMAND`, and the public names for `import tfcovr`.

A command is a module with `Config` (its options), `run(config)` and `EXAMPLES`. Only this module parses command lines, prints help
and turns errors into exit codes: 2 for an error that has one line to say, 130 for Ctrl-C, 143 for SIGTERM.
"""

import difflib
import errno
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from cluster.option_checks import require_inputs, require_numbers, require_own_outputs
from cluster.processes import RESUME, leave, run_until_signal
from cluster.telemetry import json_logs, say
from encoders.media.errors import DecodeError, DecodeSetupError

_LOG_JSON = "--log-json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Where a command lives (imported only when it is asked for), and its line in the list of commands."""

    module: str
    help: str
    is_flat: bool = False
    """Options of nested configs carry no prefix: --seed instead of --triplets.seed."""


# What a person wants to do -> the commands for it.
GROUPS: dict[str, dict[str, Command]] = {
    "Start here": {
        "build": Command(
            module="benchmarks.commands.build",
            help="a folder of videos -> an archive that can be searched",
        ),
        "demo": Command(module="benchmarks.commands.demo", help="the whole flow on rendered video"),
        "doctor": Command(
            module="benchmarks.commands.doctor", help="what this machine has and lacks"
        ),
    },
    "Data": {
        "dives": Command(module="benchmarks.commands.dives", help="render an archive of dives"),
        "split": Command(
            module="indexing.commands.split",
            help="long videos without labels -> clips.parquet",
            is_flat=True,
        ),
        "import-annotations": Command(
            module="training.commands.import_annotations",
            help="FineGym, FineDiving, TF-CoVR, your tables -> clips.parquet",
        ),
        "import-embeddings": Command(
            module="training.commands.import_embeddings",
            help="released embeddings -> vectors.parquet",
        ),
        "triplets": Command(
            module="training.commands.triplets",
            help="labelled clips -> composed queries",
            is_flat=True,
        ),
    },
    "Train": {
        "import-weights": Command(
            module="encoders.commands.import_weights",
            help="CLIP, AIM, TF-CoVR weights -> AIM bundle",
            is_flat=True,
        ),
        "train": Command(
            module="training.commands.train", help="train stage 1 or stage 2 by recipe"
        ),
        "moments": Command(
            module="training.commands.moments",
            help="spans of long videos -> a head that finds such spans",
        ),
        "vectors": Command(
            module="training.commands.vectors", help="clips + bundle -> vectors.parquet"
        ),
        "export": Command(
            module="encoders.commands.export",
            help="add ONNX files, canaries and engines to a bundle",
            is_flat=True,
        ),
    },
    "Index": {
        "index": Command(module="indexing.commands.index", help="embed an archive into Milvus"),
        "watch": Command(
            module="indexing.sources.watching.watch",
            help="keep the collection in step with a folder",
        ),
        "status": Command(
            module="indexing.ledger.status", help="how far a run is, from another terminal"
        ),
        "verify": Command(
            module="indexing.commands.verify", help="prove that the collection is complete"
        ),
        "retry": Command(
            module="indexing.commands.retry", help="try dead letters again, by reason"
        ),
        "collections": Command(
            module="indexing.commands.collections",
            help="compare encoders, swap an alias, copy to a server",
        ),
        "milvus": Command(
            module="indexing.commands.milvus", help="a Milvus server of this machine"
        ),
    },
    "Search": {
        "search": Command(module="indexing.commands.search", help="ask: a clip and an edit text"),
        "shell": Command(module="indexing.commands.shell", help="ask, edit the answers, undo"),
        "basket": Command(
            module="indexing.commands.basket",
            help="what searches have saved -> a list of cuts, one video",
        ),
        "serve": Command(
            module="indexing.commands.serve", help="answer over HTTP, with a web page"
        ),
        "labels": Command(
            module="indexing.commands.labels", help="label clips, what to ask next; import, export"
        ),
        "mcp": Command(
            module="indexing.commands.mcp", help="answer agents: read-only tools over MCP"
        ),
    },
    "Measure": {
        "evaluate": Command(
            module="training.commands.evaluate",
            help="mAP and Recall, with intervals",
            is_flat=True,
        ),
        "report": Command(
            module="benchmarks.commands.report", help="a finished run -> report.html"
        ),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

# Public names -> the module that holds them; resolved on first use so that the import stays light.
_PUBLIC: dict[str, str] = {
    "Clip": "encoders.clips",
    "read_clips": "encoders.clips",
    "write_clips": "encoders.clips",
    "SamplingConfig": "encoders.media.sampling",
    "Span": "encoders.media.frame_index",
    "decode_clips": "encoders.decoding.decode",
    "load_bundle": "encoders.bundle.folder",
    "open_backend": "encoders.backends.registry",
    "SearchClient": "indexing.search.client",
    "AsyncSearchClient": "indexing.agents.async_client",
    "Basket": "indexing.handoff.basket",
    "MilvusDatasink": "indexing.store.transfer.datasink",
    "open_datasink": "indexing.store.transfer.datasink",
}
__all__ = ["COMMANDS", "Command", "main", "parse", "run_command", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _PUBLIC:
        raise AttributeError(f"tfcovr has no {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__version__"])


def _version() -> str:
    """Of the installed package; of pyproject.toml where the checkout is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tfcovr")
    except PackageNotFoundError:
        import tomllib

        text = Path(__file__).with_name("pyproject.toml").read_text()
        return tomllib.loads(text)["project"]["version"]


def help_text() -> str:
    """The commands by what a person wants to do, one line each, and where to begin."""
    lines = ["usage: tfcovr COMMAND [options]"]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<18} {command.help}" for name, command in commands.items()]
    lines += [
        "",
        "examples:",
        "  tfcovr demo --tiny",
        "  tfcovr search SEARCH_OPTIONS --edit 'with one more twist'",
        "  tfcovr COMMAND --help",
        f"  tfcovr {_LOG_JSON} COMMAND ...",
        "  tfcovr --version",
    ]
    return "\n".join(lines)


def parse(name: str, arguments: Sequence[str]) -> tuple[ModuleType, Any]:
    """The module of a command and its config; SystemExit after --help or for options that it does not have."""
    entry = COMMANDS[name]
    command = importlib.import_module(entry.module)
    sys.argv[0] = f"tfcovr {name}"  # what usage lines show
    if hasattr(command, "parse"):  # the options of `train` depend on its recipe
        return command, command.parse(arguments)
    import tyro

    flat = (tyro.conf.OmitArgPrefixes,) if entry.is_flat else ()
    config = tyro.cli(
        command.Config,
        args=list(arguments),
        prog=f"tfcovr {name}",
        description=_description(command),
        config=(tyro.conf.FlagCreatePairsOff, *flat),
    )
    return command, config


def _description(command: ModuleType) -> str:
    """What the config says, or the module where the config is a choice of several; then the examples."""
    about = command.Config if is_dataclass(command.Config) else command
    return f"{inspect.getdoc(about)}\n\nexamples:\n{command.EXAMPLES.strip(chr(10))}\n"


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Parse and run one command; the exit status. Errors pass through."""
    command, config = parse(name, arguments)
    require_numbers(config)
    require_inputs(config)
    require_own_outputs(config)
    return command.run(config)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what can be said in one line ends with that line on stderr and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] != [_LOG_JSON]:
        return _main(arguments)
    with json_logs():
        return _main(arguments[1:])


def _main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text() + "\n")
        return 0
    if arguments[0] in ("--version", "-V"):
        sys.stdout.write(f"tfcovr {_version()}\n")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        sys.stderr.write(f"error: no command {name!r}{hint}\n\n{help_text()}\n")
        return 2
    try:
        return run_until_signal(lambda: run_command(name, rest))
    except Exception as error:
        line = error_line(error)
        if line is None:
            raise
        say(f"error: {line}", level=logging.ERROR)
        return 2


def error_line(error: BaseException) -> str | None:
    """What a person is told of an error; None for one that is a defect of this program, whose traceback is needed."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        where = f" at {error.filename}" if error.filename else ""
        return f"the disk is full{where}; free some space and {RESUME}"
    # A library that is not imported cannot have raised; importing it here would take a second.
    if _is_instance(error, "ray.exceptions", "RayTaskError"):
        return error_line(getattr(error, "cause", None) or Exception())
    if isinstance(error, Exception) and os.strerror(errno.ENOSPC) in str(
        error
    ):  # as Milvus Lite says it
        return f"the disk is full: {_first_line(error)}; free some space and {RESUME}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        what = "does not exist" if error.errno == errno.ENOENT else error.strerror.lower()
        return f"{str(error.filename)!r}: {what}"
    if isinstance(error, MemoryError):
        return f"this machine has too little memory: {_first_line(error)}"
    if isinstance(
        error,
        (ValueError, OSError, ImportError, DecodeError, DecodeSetupError, FloatingPointError),
    ):
        return str(error)
    if _is_instance(error, "pymilvus.exceptions", "MilvusException"):
        return (
            f"Milvus: {_first_line(error)}; see that --milvus-uri is right and the server is running "
            f"(`tfcovr milvus status`), then {RESUME}"
        )
    if _is_instance(error, "ray.exceptions", "RayError"):
        return f"Ray: {type(error).__name__}: {_first_line(error)}; see that its nodes have memory and are running, then {RESUME}"
    return None


def _is_instance(error: BaseException, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def entry() -> NoReturn:
    """The command `tfcovr`."""
    leave(main())


if __name__ == "__main__":
    entry()
