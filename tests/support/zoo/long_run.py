"""Every file of the zoo against FFmpeg, and seeded mutants of all of them through the sandboxed decoder; resumable.

python -m tests.support.zoo.long_run --out runs/zoo --mutants 2000 [--limit-s 500] [--record]
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.harness.record import capture_environment, write_record
from cluster.storage import write_atomic
from encoders.decoding.isolated import IsolatedDecoder
from encoders.decoding.request import DecodeRequest
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig
from tests.support.faults.mutate import frames_decoded, mutate_file
from tests.support.zoo.compare import compare
from tests.support.zoo.files import KINDS, Zoo

SPANS = ((0.0, 1.0), (1.0, None))
"""In seconds; most files of the zoo last 2.4."""
CRASHED, HUNG = "decoder_crashed", "decode_timeout"
_DEADLINE_S = 60.0
_SAMPLING = SamplingConfig(num_frames=4, frame_size=16)


def main() -> int:
    """0 when all ran and nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="finished parts; give the same again")  # fmt: skip
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--limit-s", type=float, default=1e9, help="start nothing after it")
    parser.add_argument("--record", action="store_true", help="write trust_media_*.json")
    arguments = parser.parse_args()
    zoo = Zoo(arguments.out / "files")
    zoo.folder.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + arguments.limit_s
    files = _resumed(
        arguments.out / "compared.jsonl", list(KINDS), lambda name: _compared(zoo, name), give_up
    )
    with IsolatedDecoder(deadline_s=_DEADLINE_S) as decoder:
        mutants = _resumed(
            arguments.out / "mutants.jsonl",
            range(arguments.mutants),
            lambda seed: judge_mutant(zoo, seed, decoder),
            give_up,
        )
    metrics = {
        "zoo_files": len(files),
        "zoo_frames": sum(line["num_frames"] for line in files),
        "zoo_frames_wrong": sum(len(line["wrong"]) for line in files),
        "zoo_files_wrong": sorted(line["key"] for line in files if line["wrong"]),
    } | summarize(mutants)
    _say(json.dumps(metrics, indent=2))
    is_whole = len(files) == len(KINDS) and len(mutants) == arguments.mutants
    if arguments.record and is_whole:
        _say(str(write_record("trust_media", config={"mutants": arguments.mutants}, metrics=metrics)))  # fmt: skip
    bad = ("zoo_frames_wrong", "mutants_crashed", "mutants_hung", "mutants_good_lost")
    return 0 if is_whole and not any(metrics[name] for name in bad) else 1


def judge_mutant(zoo: Zoo, seed: int, decoder: IsolatedDecoder) -> dict:
    """What became of its spans: "in", or the reason why not. Lost are those that FFmpeg decodes without a word, as long as the source's,
    but for files that a flipped bit takes beyond a limit, such as 1,475 frames per second in an AVI's header."""
    source = zoo.make(list(KINDS)[seed % len(KINDS)])
    folder = zoo.folder / "mutants"
    folder.mkdir(exist_ok=True)
    path = mutate_file(source, folder, seed)
    spans = tuple(Span(start_s=start_s, end_s=end_s) for start_s, end_s in SPANS)
    request = DecodeRequest(video=str(path), spans=spans, sampling=_SAMPLING)
    try:
        errors = decoder.decode(request).errors
    except DecodeError as error:
        errors = [error] * len(spans)
    lost = [
        f"{path.name}@{start_s:g}: {error}"
        for (start_s, end_s), error in zip(SPANS, errors, strict=True)
        if error is not None
        and error.reason != "limit_exceeded"
        and 0 < frames_decoded(source, start_s, end_s) <= frames_decoded(path, start_s, end_s)
    ]
    outcomes = ["in" if error is None else error.reason for error in errors]
    if not lost and not {CRASHED, HUNG} & set(outcomes):
        path.unlink()
    return {"container": path.suffix, "outcomes": outcomes, "lost": lost}


def summarize(lines: Iterable[dict]) -> dict:
    """Figures of judged mutants, counted by span."""
    lines = list(lines)
    outcomes = Counter(outcome for line in lines for outcome in line["outcomes"])
    return {
        "mutants_tried": len(lines),
        "mutants_containers": dict(Counter(line["container"] for line in lines)),
        "mutants_spans": outcomes.total(),
        "mutants_in": outcomes["in"],
        "mutants_crashed": outcomes[CRASHED],
        "mutants_hung": outcomes[HUNG],
        "mutants_good_lost": sum(len(line["lost"]) for line in lines),
        "mutants_lost_names": [name for line in lines for name in line["lost"]],
        "mutants_reasons": {name: n for name, n in sorted(outcomes.items()) if name != "in"},
    }


def _compared(zoo: Zoo, name: str) -> dict:
    folder = zoo.folder / "compared"
    folder.mkdir(exist_ok=True)
    try:
        compared = compare(zoo.make(name), folder)
    except DecodeError as error:
        return {"num_frames": 0, "wrong": [str(error)]}
    finally:
        shutil.rmtree(folder)
    return {"num_frames": compared.num_frames, "wrong": compared.wrong}


def _resumed(done: Path, keys: Iterable, work: Callable[..., dict], give_up: float) -> list[dict]:
    """A line for each key, those of this commit from the file. What ran at another commit says nothing of this one."""
    commit = str(capture_environment()["git_commit"])
    lines = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    lines = [line for line in lines if line["commit"] == commit]
    write_atomic(done, "".join(json.dumps(line) + "\n" for line in lines))
    finished = {line["key"] for line in lines}
    for key in keys:
        if key in finished:
            continue
        if time.monotonic() > give_up:
            break
        lines.append({"key": key, **work(key), "commit": commit})
        with done.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        if lines[-1].get("wrong") or lines[-1].get("lost"):
            _say(json.dumps(lines[-1]))
    return lines


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
