"""summary.json of a demo run: the figures that say whether the flow worked, read from its files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.parts import PartRecord


def summarize(run_dir: Path, records: Sequence[PartRecord], *, preset: str) -> dict[str, Any]:
    """Shares and mAP are 0..1; times are of the steps alone, summed over all attempts."""
    evaluation = read_json(run_dir / "evaluate" / "metrics.json")
    evidence = read_json(run_dir / "time_evidence" / "time_evidence.json")
    index = read_json(run_dir / "index" / "index_summary.json")
    card = read_json(run_dir / "stage2" / "bundle" / "card.json")
    rows = {row["name"]: row for row in evaluation["rows"]}
    top1 = {row["name"]: row["top1"] for row in evidence["rows"]}
    others = [row for name, row in rows.items() if name != "composed"]
    best_other = max(others, key=lambda row: row["map@50"])
    return {
        "preset": preset,
        "seconds_total": round(sum(record.seconds for record in records), 1),
        "peak_memory_gb": max(record.figures["peak_memory_gb"] for record in records),
        "num_classes": evidence["num_classes"],
        "top1": top1["ordered"],
        "top1_shuffled": top1["shuffled"],
        "top1_single_frame": top1["single_frame"],
        "map50_composed": rows["composed"]["map@50"],
        "map50_composed_low": rows["composed"]["map@50_low"],
        "map50_video_only": rows["video_only"]["map@50"],
        "map50_text_only": rows["text_only"]["map@50"],
        "map50_mean": rows["mean"]["map@50"],
        "map50_raw": rows["raw"]["map@50"],
        "map50_best_other_high": best_other["map@50_high"],
        "clips_indexed": index["written"] + index.get("skipped", 0),
        "dead_letters": index["dead"],
        "onnx_min_cosine": card["onnx"]["min_cosine"],
    }


def read_json(path: Path) -> Mapping[str, Any]:
    """A result file of an earlier step; a missing one names the step that makes it."""
    if not path.exists():
        raise ValueError(f"{path} is missing; run the demo again, it makes what is not there")
    return json.loads(path.read_text())
