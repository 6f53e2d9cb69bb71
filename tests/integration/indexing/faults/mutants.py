"""Many damaged files in one indexing run: what ffmpeg calls wholly good must be in, the rest in or a dead letter."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mutate import is_wholly_good, mutate_file
from small_videos import write_video

from encoders.card import read_card
from indexing.config import IndexConfig
from indexing.ledger import read_dead_letters
from indexing.milvus import open_collection
from indexing.pipeline import index_archive

CRASHES = ("decoder_crashed", "decode_timeout")


def index_mutants(folder: Path, bundle_dir: Path, seeds: Iterable[int]) -> dict:
    """Figures of the run; mutants_lost = good by ffmpeg and yet not in, mutants_unexplained = neither in nor a dead letter."""
    (folder / "sources").mkdir()
    (folder / "videos").mkdir()
    sources = [
        write_video(folder / "sources" / name, number, num_frames=25, **options)
        for number, (name, options) in enumerate(
            (
                ("plain.mp4", {}),
                ("fragmented.mp4", {"g": "8"}),
                ("b-frames.mkv", {"preset": "veryfast", "bf": "3"}),
                ("b-frames.mp4", {"preset": "veryfast", "bf": "3"}),
            )
        )
    ]
    mutants = [mutate_file(sources[seed % len(sources)], folder / "videos", seed) for seed in seeds]
    good = {path.name for path in mutants if is_wholly_good(path)}
    config = IndexConfig(
        bundle_dir=bundle_dir,
        clips=str(folder / "videos"),
        milvus_uri=str(folder / "milvus"),
        run_dir=folder / "run",
        decode_deadline_s=60,
    )
    index_archive(config)
    with open_collection(config.milvus_uri, "clips") as collection:
        collection.check(encoder_id=read_card(bundle_dir).encoder_id)
        stored = {row["clip_id"] for row in collection.rows()}
    letters = {one.clip_id: one.reason for one in read_dead_letters(config.run_dir)}
    names = {path.name for path in mutants}
    return {
        "mutants_tried": len(names),
        "mutants_good": len(good),
        "mutants_in": len(stored),
        "mutants_lost": len(good - stored),
        "mutants_lost_names": sorted((name, letters.get(name, "")) for name in good - stored),
        "mutants_unexplained": len(names - stored - letters.keys()),
        "mutants_crashed": sum(reason in CRASHES for reason in letters.values()),
        "mutants_reasons": dict(Counter(letters.values())),
    }
