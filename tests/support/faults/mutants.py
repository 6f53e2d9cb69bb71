"""Many damaged files of a rendered archive in one indexing run.

Every span that ffmpeg decodes whole must be in, every other in or a dead letter.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import av

from benchmarks.dives.archive import ArchiveConfig, write_archive
from encoders.bundle.card import read_card
from encoders.clips import Clip, read_clips, write_clips
from indexing.ledger.dead_letters import read_dead_letters
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.index_archive import index_archive
from indexing.store.collection import open_collection
from tests.support.faults.mutate import frames_decoded, mutate_file

CRASHES = ("decoder_crashed", "decode_timeout")
SPANS = {"first": (0.0, 1.0), "rest": (1.0, None)}
"""In seconds; a dive lasts about two."""
_DIVES = ("103b", "5152b")


def index_mutants(folder: Path, bundle_dir: Path, seeds: Iterable[int]) -> dict:
    """Figures of the run, counted by span; killed, it goes on in the same folder.

    mutants_lost = not in, though ffmpeg decodes without a word all frames that the source has there; mutants_unexplained = neither
    in nor a dead letter.
    """
    sources = _write_sources(folder)
    (folder / "videos").mkdir(exist_ok=True)
    whole = {
        (one, name): frames_decoded(one, *span) for one in sources for name, span in SPANS.items()
    }
    assert all(whole.values()), whole
    clips, good, num_mutants = [], set(), 0
    for seed in seeds:
        source = sources[seed % len(sources)]
        path, num_mutants = mutate_file(source, folder / "videos", seed), num_mutants + 1
        for name, (start_s, end_s) in SPANS.items():
            clip_id = f"{path.name}@{name}"
            clips.append(Clip(clip_id=clip_id, video_uri=str(path), start_s=start_s, end_s=end_s))
            if frames_decoded(path, start_s, end_s) >= whole[source, name]:
                good.add(clip_id)
    write_clips(folder / "clips.parquet", clips)
    config = IndexConfig(
        bundle=bundle_dir,
        clips=str(folder / "clips.parquet"),
        milvus_uri=str(folder / "milvus"),
        run_dir=folder / "run",
        decode_deadline_s=60,
    )
    index_archive(config)
    with open_collection(config.milvus_uri, "clips") as collection:
        collection.check(encoder_id=read_card(bundle_dir).encoder_id)
        stored = {row["clip_id"] for row in collection.rows()}
    letters = {one.clip_id: one.error.reason for one in read_dead_letters(config.run_dir)}
    names = {clip.clip_id for clip in clips}
    return {
        "mutants_tried": num_mutants,
        "mutants_spans": len(names),
        "mutants_good": len(good),
        "mutants_in": len(stored),
        "mutants_lost": len(good - stored),
        "mutants_lost_names": sorted((name, letters.get(name, "")) for name in good - stored),
        "mutants_unexplained": len(names - stored - letters.keys()),
        "mutants_crashed": sum(reason in CRASHES for reason in letters.values()),
        "mutants_reasons": dict(Counter(letters.values())),
    }


def _write_sources(folder: Path) -> list[Path]:
    """Rendered dives as they are (H.264 in MP4, VP9 in WebM), and in other containers with other groups of pictures."""
    rendered: dict[str, list[Path]] = {}
    for codec in ("h264", "vp9"):
        archive = ArchiveConfig(classes=_DIVES, clips_per_class=(1, 0, 0), size=96, codec=codec)
        clips = read_clips(write_archive(folder / codec, archive, num_workers=1, quiet=True))
        rendered[codec] = [Path(clip.video_uri) for clip in clips]
    first, second = rendered["h264"]
    return [
        first,
        _encode_again(second, folder / "keyframes.mp4", g="8", bf="0"),
        _encode_again(first, folder / "b-frames.mkv", g="25", bf="3"),
        _encode_again(second, folder / "fragmented.mp4", g="12", movflags="frag_keyframe+empty_moov"),
        rendered["vp9"][0],
    ]  # fmt: skip


def _encode_again(source: Path, target: Path, *, movflags: str = "", **options: str) -> Path:
    muxing = {"movflags": movflags} if movflags else {}
    with av.open(str(source)) as given, av.open(str(target), "w", options=muxing) as made:
        shown = given.streams.video[0]
        stream = made.add_stream("libx264", rate=25, options={"preset": "veryfast"} | options)
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in given.decode(shown):
            made.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"))))
        made.mux(stream.encode())
    return target
