"""The three questions that the demo asks of its archive, and the pictures of the answers.

The questions are drawn from the test triplets by a hash of their ids, one per kind of change, before
anything is searched: none is picked because it went well.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cluster.storage import write_atomic
from encoders.clips import Clip, read_clips
from encoders.decoding.isolated import IsolatedDecoder
from indexing.search.client import DECODE_DEADLINE_S, SearchClient
from indexing.search.film_strip import FilmStripStyle, draw_film_strips, film_strip
from indexing.search.types import SearchResult
from training.annotations.triplets.table import Triplet, read_triplets


@dataclass(frozen=True, kw_only=True, slots=True)
class AskConfig:
    """Three composed questions to an indexed archive."""

    bundle: Path
    milvus_uri: str
    clips: Path
    triplets: Path
    out: Path
    """answers.json, answers.png and the folder answers/ of film strips go here."""
    num_questions: int = 3
    limit: int = 6

    def __post_init__(self) -> None:
        if self.num_questions < 1 or self.limit < 1:
            raise ValueError(
                f"num_questions is {self.num_questions} and limit {self.limit}; both must be at least 1"
            )


def choose_questions(
    triplets: Sequence[Triplet], clips: Sequence[Clip], *, num_questions: int, split: str = "test"
) -> list[Triplet]:
    """One question per kind of change first (which attributes differ), in the order of a hash."""
    attributes = {clip.label: clip.attributes for clip in clips}

    def changed(triplet: Triplet) -> tuple[str, ...]:
        before, after = attributes[triplet.source_label], attributes[triplet.target_label]
        return tuple(sorted(name for name in before if before[name] != after.get(name)))

    def drawn(triplet: Triplet) -> str:
        return hashlib.sha256(triplet.query_id.encode()).hexdigest()

    pool = sorted((triplet for triplet in triplets if triplet.split == split), key=drawn)
    if len(pool) < num_questions:
        raise ValueError(
            f"split {split!r} has {len(pool)} triplets; {num_questions} questions were wanted"
        )
    first_of_kind: dict[tuple[str, ...], Triplet] = {}
    for triplet in pool:
        first_of_kind.setdefault(changed(triplet), triplet)
    # Single changes before double ones: they are easier to judge by eye.
    chosen = [
        first_of_kind[kind] for kind in sorted(first_of_kind, key=lambda kind: (len(kind), kind))
    ]
    rest = [triplet for triplet in pool if triplet not in chosen]
    return (chosen + rest)[:num_questions]


def describe_answers(
    triplet: Triplet, result: SearchResult, out_dir: Path, decoder: IsolatedDecoder
) -> dict[str, Any]:
    """One entry of answers.json; the film strips are written beside it."""
    style = FilmStripStyle()

    def strip(place: Any, name: str) -> str:
        path = out_dir / "answers" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        film_strip(place, style, decoder).save(path, quality=88)
        return str(path.relative_to(out_dir))

    question = hashlib.sha256(triplet.query_id.encode()).hexdigest()[:8]
    hits = []
    for rank, hit in enumerate(result.hits, start=1):
        entry = asdict(hit) | {"is_right": hit.label == triplet.target_label}
        hits.append(entry | {"strip": strip(hit, f"{question}-{rank}")})
    return {
        "query_clip_id": triplet.query_clip_id,
        "query_label": triplet.source_label,
        "edit_text": triplet.edit_text,
        "target_label": triplet.target_label,
        "query_strip": strip(result.query, f"{question}-query"),
        "hits": hits,
    }


def stack_pictures(paths: Sequence[Path], out_path: Path) -> None:
    """Put pictures of any size below one another."""
    pictures = [Image.open(path) for path in paths]
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, sum(picture.height for picture in pictures)), "white")
    top = 0
    for picture in pictures:
        sheet.paste(picture, (0, top))
        top += picture.height
    sheet.save(out_path)


def ask(config: AskConfig) -> list[dict[str, Any]]:
    """Choose, search, draw; returns what answers.json holds."""
    clips = read_clips(config.clips)
    questions = choose_questions(
        read_triplets(config.triplets), clips, num_questions=config.num_questions
    )
    answers, sheets = [], []
    with (
        SearchClient(config.milvus_uri, "clips", config.bundle) as client,
        IsolatedDecoder(deadline_s=DECODE_DEADLINE_S) as decoder,
    ):
        for number, triplet in enumerate(questions, start=1):
            result = client.search(
                clip=triplet.query_clip_id, edit=triplet.edit_text, limit=config.limit
            )
            answers.append(describe_answers(triplet, result, config.out, decoder))
            sheets.append(draw_film_strips(result, config.out / "answers" / f"sheet-{number}.png"))
    stack_pictures(sheets, config.out / "answers.png")
    write_atomic(config.out / "answers.json", json.dumps(answers, indent=1).encode())
    return answers


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, and print each question with the labels of its answers."""
    import tyro

    config = tyro.cli(AskConfig, args=argv, prog="python -m benchmarks.demo.questions")
    for answer in ask(config):
        marks = ", ".join(
            f"{hit['label']}{'*' if hit['is_right'] else ''}" for hit in answer["hits"]
        )
        sys.stdout.write(f"{answer['query_label']} + {answer['edit_text']!r} -> {marks}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
