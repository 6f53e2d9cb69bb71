"""Whether "nothing matches" and the probability of a hit can be believed, through the search client, on the test split of a finished demo.

Nothing here is fitted: the calibration comes with the bundle, the unrelated texts and videos are of other lists and drawings than those
that it was fitted with.
"""

import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.studies.unrelated_video import KINDS, unrelated_video
from encoders.bundle.calibration import QUERY_KINDS
from encoders.clips import read_clips
from indexing.search.client import SearchClient, SearchOptions
from indexing.search.types import ComposedQuery, SearchResult
from training.annotations.triplets.table import Triplet, read_triplets

_DATA = Path(__file__).resolve().parent / "data"
_AT_ONCE = 32
_NUM_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Measure on a finished demo."""

    run_dir: Path
    """Folder of the demo: stage2/bundle (exported), milvus, triplets.parquet and archive/clips.parquet."""
    num_queries: int = 600
    """Of each kind, at most."""
    num_videos: int = 4
    """Unrelated videos of each kind."""
    split: str = "test"

    def __post_init__(self) -> None:
        if self.num_queries < 10 or self.num_videos < 1:
            raise ValueError(
                f"num_queries is {self.num_queries} (at least 10), num_videos is {self.num_videos} (at least 1)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A query and the labels that answer it; none = nothing in the filtered archive does."""

    query: ComposedQuery
    right_labels: frozenset[str]


def measure(config: Config) -> dict[str, Any]:
    """All figures; `abstain_precision_stated90` and `nothing_matches_unrelated` first."""
    triplets = [
        t for t in read_triplets(config.run_dir / "triplets.parquet") if t.split == config.split
    ]
    bundle_dir = config.run_dir / "stage2" / "bundle"
    with SearchClient(
        str(config.run_dir / "milvus"), "clips", bundle_dir, options=SearchOptions(num_threads=1)
    ) as client:
        if client.confidence.calibration is None:
            raise ValueError(f"{bundle_dir} has no calibration; train stage 2 again")
        figures: dict[str, Any] = {}
        for kind in QUERY_KINDS:
            asked = list(_asked(kind, triplets, client, config))
            figures |= _named(kind, answer_figures(ask_all(client, asked)))
        filtered = list(_asked("composed", triplets, client, config, by_attribute=True))
        figures |= _named("filtered", answer_figures(ask_all(client, filtered)))
        refused = refusals(client, triplets, config)
    unrelated = [value for name, value in refused.items() if name.startswith("refused_unrelated")]
    first = {
        "abstain_precision_stated90": figures["composed_precision_stated90"],
        "nothing_matches_unrelated": float(np.mean([x for part in unrelated for x in part])),
    }
    shares = {name: float(np.mean(values)) for name, values in refused.items()}
    counts = {"num_unrelated": sum(map(len, unrelated))}
    return first | figures | shares | counts


def _named(kind: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{kind}_{name}": value for name, value in figures.items()}


def _asked(
    kind: str,
    triplets: Sequence[Triplet],
    client: SearchClient,
    config: Config,
    *,
    by_attribute: bool = False,
) -> Iterator[Asked]:
    """Each query twice: where something answers it, and where a filter leaves nothing that does."""
    labels_of_text: defaultdict[str, set[str]] = defaultdict(set)
    for triplet in read_triplets(config.run_dir / "triplets.parquet"):
        labels_of_text[triplet.edit_text].add(triplet.target_label or "")
    seen: set[tuple[str, str]] = set()
    drawn = random.Random(0).sample(list(triplets), len(triplets))
    for triplet in drawn:
        if len(seen) == config.num_queries:
            return
        clip, edit = triplet.query_clip_id, triplet.edit_text
        right = {triplet.target_label or ""}
        if kind == "clip":
            edit, right = "", {triplet.source_label or ""}
        elif kind == "text":
            clip, right = "", labels_of_text[edit]
        if (clip, edit) in seen:
            continue
        seen.add((clip, edit))
        how: dict[str, Any] = {"clip": clip, "edits": (edit,) if edit else ()}
        filters: dict[str, Any] = {"split": triplet.split}
        if by_attribute:
            yield from _within_an_attribute(client, how, filters, right, number=len(seen))
            continue
        yield Asked(query=ComposedQuery(filters=filters, **how), right_labels=frozenset(right))
        others = [label for label in client.snapshot.facts.labels if label not in right]
        if others:
            without = ComposedQuery(filters=filters | {"label": others}, **how)
            yield Asked(query=without, right_labels=frozenset())


def _within_an_attribute(
    client: SearchClient,
    how: dict[str, Any],
    filters: dict[str, Any],
    right: set[str],
    *,
    number: int,
) -> Iterator[Asked]:
    """The query among the clips of one value of an attribute that leaves something of what is right, and of one that leaves nothing."""
    by_label = client.snapshot.facts.label_attributes
    for is_answered in (True, False):
        values = []
        for name, of_name in client.snapshot.facts.attributes.items():
            for value in of_name:
                left = right & {label for label in by_label if by_label[label].get(name) == value}
                if len(of_name) > 1 and bool(left) == is_answered:
                    values.append((name, value, left))
        if values:
            name, value, left = values[number % len(values)]
            query = ComposedQuery(filters=filters | {name: value}, **how)
            yield Asked(query=query, right_labels=frozenset(left))


def ask_all(client: SearchClient, asked: Sequence[Asked]) -> list[tuple[Asked, SearchResult]]:
    """In batches."""
    answered = []
    for first in range(0, len(asked), _AT_ONCE):
        part = asked[first : first + _AT_ONCE]
        answered += zip(part, client.search_many([a.query for a in part]), strict=True)
    return answered


def answer_figures(answered: Iterable[tuple[Asked, SearchResult]]) -> dict[str, float]:
    """Of the answers that are said to match, the share whose first hit is right; what is refused; and how true the probabilities are."""
    matched, is_absent, is_first_right, stated, is_right = [], [], [], [], []
    for asked, result in answered:
        right = [hit.label in asked.right_labels for hit in result.hits]
        matched.append(bool(result.has_match))
        is_absent.append(not asked.right_labels)
        is_first_right.append(bool(right and right[0]))
        stated += [hit.probability or 0.0 for hit in result.hits]
        is_right += right
    match_N, absent_N, right_N = map(np.array, (matched, is_absent, is_first_right))
    return {
        "precision_stated90": float(right_N[match_N].mean()) if match_N.any() else 0.0,
        "absent_refused": float((~match_N[absent_N]).mean()),
        "present_kept": float(match_N[right_N].mean()) if right_N.any() else 0.0,
        "calibration_error": expected_calibration_error(np.array(stated), np.array(is_right)),
        "num_answers": len(match_N),
    }


def expected_calibration_error(stated_N: np.ndarray, is_right_N: np.ndarray) -> float:
    """Mean distance of stated and measured share over bins of equal width, weighted by size (Naeini et al., 2015)."""
    bins_N = np.minimum((stated_N * _NUM_BINS).astype(int), _NUM_BINS - 1)
    parts = [bins_N == number for number in range(_NUM_BINS)]
    gaps = [
        part.sum() * abs(stated_N[part].mean() - is_right_N[part].mean())
        for part in parts
        if part.any()
    ]
    return float(sum(gaps) / len(stated_N))


def refusals(
    client: SearchClient, triplets: Sequence[Triplet], config: Config
) -> dict[str, list[bool]]:
    """Which queries are refused, by what is unrelated in them; and of related ones, which should not be."""
    drawn = triplets[:: max(1, len(triplets) // 100)]

    def ask(**how: Any) -> bool:
        return client.search(limit=5, **how).has_match is False

    refused: dict[str, list[bool]] = {}
    for name in ("unrelated", "related"):
        texts = (_DATA / f"{name}_texts.txt").read_text().splitlines()
        refused[f"refused_{name}_text"] = [ask(edit=text) for text in texts]
        refused[f"refused_{name}_text_with_clip"] = [
            ask(clip=drawn[n % len(drawn)].query_clip_id, edit=text) for n, text in enumerate(texts)
        ]
    with tempfile.TemporaryDirectory() as folder:
        videos = list(_write_videos(Path(folder), config.num_videos))
        refused["refused_unrelated_video"] = [ask(clip=video) for video in videos]
        refused["refused_unrelated_video_with_edit"] = [
            ask(clip=video, edit=drawn[n % len(drawn)].edit_text) for n, video in enumerate(videos)
        ]
    clips = [
        c
        for c in read_clips(config.run_dir / "archive" / "clips.parquet")
        if c.split == config.split
    ]
    refused["refused_related_video"] = [ask(clip=_file_of(clip)) for clip in clips]
    return refused


def _file_of(clip: Any) -> str:
    end = "" if clip.end_s is None else f"{clip.end_s}"
    return f"{clip.video_uri}@{clip.start_s}-{end}"


def _write_videos(folder: Path, num_videos: int) -> Iterator[str]:
    for kind in KINDS:
        for seed in range(num_videos):
            path = folder / f"{kind}-{seed}.mp4"
            write_video(path, [unrelated_video(kind, seed)], codec="h264")
            yield str(path)
