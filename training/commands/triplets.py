"""tfcovr triplets: clips.parquet -> triplets.parquet and a summary of what was made."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster.progress import progress_bar
from cluster.storage import write_atomic
from cluster.tables import text_table
from encoders.clips import Clip, read_clips, write_clips
from training.annotations.labels.pairs import attributes_by_label, label_pairs
from training.annotations.triplets.build import (
    TripletConfig,
    TripletReport,
    build_triplets_with_report,
)
from training.annotations.triplets.gallery import cap_gallery
from training.annotations.triplets.llm import LlmConfig, LlmTexts, write_texts
from training.annotations.triplets.table import write_triplets

EXAMPLES = """
  tfcovr triplets --clips runs/demo/archive/clips.parquet --out runs/demo/triplets.parquet
  tfcovr triplets --clips clips.parquet --out triplets.parquet --num-triplets 180000 --max-targets 3.9 \\
      --complete-splits --gallery gallery.parquet      # the paper's size, every split capped
  tfcovr triplets --clips clips.parquet --out triplets.parquet --llm-url http://127.0.0.1:8000/v1 --llm-model NAME
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Make composed queries from labelled clips.

    Every ordered pair of labels that differ in one or two attributes becomes an edit ("with 2.5 twists"); the answers to a query
    are the clips of the new label in other videos of the same split.
    """

    clips: Path
    """clips.parquet with labels and attributes."""
    out: Path
    """The triplets.parquet to write; a summary goes beside it as <name>.json."""
    triplets: TripletConfig = field(default_factory=TripletConfig)
    gallery: Path | None = None
    """Write the capped gallery here: a clips.parquet of the query and target clips alone, for `index` and `evaluate`."""
    llm_url: str | None = None
    """Base URL of an OpenAI-compatible endpoint that writes edit texts; None = templates only."""
    llm_model: str | None = None
    llm_api_key_env: str | None = None
    """Name of the environment variable that holds the key."""
    llm_cache: Path | None = None
    """JSON file of replies; None = <out>.llm.json."""
    llm_sentences_per_pair: int = 6

    def __post_init__(self) -> None:
        if (self.llm_url is None) != (self.llm_model is None):
            raise ValueError("llm_url and llm_model go together; give both or neither")


def run(config: Config) -> int:
    """Build, write, and show the summary."""
    started = time.monotonic()
    console = Console(file=sys.stdout)
    clips = read_clips(config.clips)
    _require_splits(config.triplets, {clip.split for clip in clips if clip.split})
    llm = _ask_llm(clips, config)
    texts = llm.texts if llm else {}
    triplets, report = build_triplets_with_report(clips, config.triplets, texts=texts)
    if not triplets:
        raise ValueError(
            f"{config.clips}: no triplet can be made: {report.num_pairs} label pairs differ in at most "
            f"{config.triplets.max_changes} attributes, {report.num_edits_without_target} edits have no target"
        )
    write_triplets(config.out, triplets)
    capped = None if config.gallery is None else cap_gallery(triplets, clips)
    if capped is not None and config.gallery is not None:
        write_clips(config.gallery, capped.clips)
    num_written = sum((t.source_label, t.target_label) in texts for t in triplets)
    record = {
        "config": asdict(config),
        "report": asdict(report),
        "edit_texts": {"llm": num_written, "templates": len(triplets) - num_written},
    }
    if capped is not None:
        record["gallery"] = {
            "num_clips": len(capped.clips),
            "num_left_out": capped.num_left_out,
            "unlisted_answers_per_query": capped.unlisted_answers_per_query,
        }
    if llm is not None:
        record["llm"] = {k: v for k, v in asdict(llm).items() if k != "texts"}
    write_atomic(config.out.with_suffix(".json"), json.dumps(record, indent=1, default=os.fspath))
    console.print(_summary(report))
    if capped is not None:
        console.print(
            f"gallery: {len(capped.clips)} clips, {capped.num_left_out} left out, "
            f"{capped.unlisted_answers_per_query:.2f} unlisted answers per query",
            highlight=False,
        )
    if llm is not None:
        console.print(
            f"edit texts: {num_written} from {config.llm_model}, {len(triplets) - num_written} from templates"
        )
        if llm.warning:
            console.print(f"warning: {llm.warning}", style="yellow", markup=False)
    console.print(
        f"wrote {report.num_triplets} triplets to {config.out} in {time.monotonic() - started:.1f} s",
        highlight=False,
    )
    return 0


def _require_splits(config: TripletConfig, splits: set[str]) -> None:
    """ValueError for a split that is asked for and not there; those of the defaults need not be."""
    usual = TripletConfig()
    known = {usual.train_split, *usual.complete_splits, *splits}
    for name in (config.train_split, *config.complete_splits):
        if name not in known:
            raise ValueError(
                f"the clips have no split {name!r}; they have {', '.join(sorted(splits)) or 'none'}"
            )


def _ask_llm(clips: Sequence[Clip], config: Config) -> LlmTexts | None:
    if config.llm_url is None or config.llm_model is None:
        return None
    pairs = label_pairs(attributes_by_label(clips), max_changes=config.triplets.max_changes)
    llm_config = LlmConfig(
        base_url=config.llm_url,
        model=config.llm_model,
        api_key_env=config.llm_api_key_env,
        cache_path=config.llm_cache or config.out.with_suffix(".llm.json"),
        sentences_per_pair=config.llm_sentences_per_pair,
    )
    with progress_bar("edit texts", len(pairs)) as update:
        return write_texts(pairs, llm_config, on_progress=update)


def _summary(report: TripletReport) -> Table:
    by_split = ", ".join(f"{split or 'all'} {num}" for split, num in report.num_by_split.items())
    rows = [
        ("triplets", f"{report.num_triplets} of {report.num_possible} possible ({by_split})"),
        ("targets per query", f"{report.mean_targets_per_query:.1f} on average, "
         f"{report.min_targets_per_query} to {report.max_targets_per_query}"),
        ("ordered label pairs", str(report.num_pairs)),
        *((f"  differ in {name}", str(num)) for name, num in report.pairs_by_attribute.items()),
        ("pairs held out of training", str(len(report.held_out_pairs))),
        ("edits without target", str(report.num_edits_without_target)),
    ]  # fmt: skip
    if report.labels_with_equal_attributes:
        groups = "; ".join(", ".join(labels) for labels in report.labels_with_equal_attributes)
        rows.append(("labels with equal attributes", groups))
    if report.num_clips_without_label:
        rows.append(("clips without label, left out", str(report.num_clips_without_label)))
    return text_table(("", ""), rows, title="triplets")
