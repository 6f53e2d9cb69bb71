"""The front door: `tfcovr <command>`, and the public names for `import tfcovr`; holds no logic."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from encoders.media.errors import DecodeSetupError


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Where a command lives (imported only when it is asked for) and what it says of itself."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "demo": Command(
        module="benchmarks.demo.run", help="the whole flow on rendered video, start here"
    ),
    "doctor": Command(module="benchmarks.doctor.report", help="what this machine has and lacks"),
    "dives": Command(module="benchmarks.dives.__main__", help="render an archive of dives"),
    "import-annotations": Command(
        module="training.commands.import_annotations",
        help="FineGym, FineDiving, TF-CoVR, your tables -> clips.parquet",
    ),
    "import-embeddings": Command(
        module="training.commands.import_embeddings",
        help="released embeddings -> vectors.parquet",
    ),
    "triplets": Command(
        module="training.commands.triplets", help="labelled clips -> composed queries"
    ),
    "import-weights": Command(
        module="encoders.commands.import_weights", help="CLIP, AIM, TF-CoVR weights -> AIM bundle"
    ),
    "train": Command(module="training.run", help="train stage 1 or stage 2 by recipe"),
    "vectors": Command(
        module="training.commands.vectors", help="clips + bundle -> vectors.parquet"
    ),
    "export": Command(
        module="encoders.commands.export", help="add ONNX files, canaries and engines to a bundle"
    ),
    "split": Command(
        module="indexing.commands.split", help="long videos without labels -> clips.parquet"
    ),
    "index": Command(module="indexing.commands.index", help="embed an archive into Milvus"),
    "verify": Command(
        module="indexing.commands.verify", help="prove that the collection is complete"
    ),
    "retry": Command(module="indexing.commands.retry", help="try dead letters again, by reason"),
    "search": Command(module="indexing.commands.search", help="ask: a clip and an edit text"),
    "shell": Command(module="indexing.commands.shell", help="ask, edit the answers, undo"),
    "milvus": Command(module="indexing.commands.milvus", help="a Milvus server of this machine"),
    "collections": Command(
        module="indexing.commands.collections",
        help="compare encoders, swap an alias, copy to a server",
    ),
    "serve": Command(module="indexing.commands.serve", help="answer over HTTP, with a web page"),
    "calibrate": Command(
        module="indexing.commands.calibrate", help="when to say that nothing matches"
    ),
    "evaluate": Command(module="training.commands.evaluate", help="mAP and Recall, with intervals"),
    "report": Command(module="benchmarks.report.page", help="a finished run -> report.html"),
}

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
    "MilvusDatasink": "indexing.store.datasink",
    "open_datasink": "indexing.store.datasink",
}
__all__ = ["COMMANDS", "Command", "main", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"tfcovr has no {name!r}; it has {', '.join(sorted(_PUBLIC))}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def help_text() -> str:
    """The commands, one line each, and where to begin."""
    lines = ["usage: tfcovr COMMAND [options]", "", "commands:"]
    lines += [f"  {name:<18} {command.help}" for name, command in COMMANDS.items()]
    lines += [
        "",
        "examples:",
        "  tfcovr demo --tiny",
        "  tfcovr search --bundle-dir runs/demo/stage2/bundle --milvus-uri runs/demo/milvus \\",
        "      --clip test-5152b-0003 --edit 'with one more twist' -k 10",
        "  tfcovr COMMAND --help",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends with one clear line and exit status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(help_text() + "\n")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        sys.stderr.write(f"error: no command {name!r}{hint}\n\n{help_text()}\n")
        return 2
    command = importlib.import_module(COMMANDS[name].module)
    sys.argv[0] = f"tfcovr {name}"  # what usage lines show
    try:
        return command.main(rest) or 0
    except (ValueError, OSError, ImportError, DecodeSetupError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
