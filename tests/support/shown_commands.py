"""Commands of the documentation that run on one machine, and a folder in which their inputs exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.dives.video import FPS, write_video
from encoders.clips import read_clips, write_clips
from indexing.archive_folder import Archive, write_archive

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "search",
    "collections list",
    "report page",
    "triplets",
    "import-annotations table",
}
LONG = {"verify", "evaluate", "vectors"}
# Placeholders, other machines, endpoints, and sizes that need an archive of the paper's size.
_ELSEWHERE = re.compile(r"\b(HOST|BUCKET|NAME|s3://|http://|180000)")
_BLOCK = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def shown_commands(verbs: set[str]) -> Iterator[list[str]]:
    """Arguments of `tfcovr` of every command of README.md and docs/ with one of the verbs, each once."""
    seen: set[tuple[str, ...]] = set()
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in _BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = tuple(shlex.split(line, comments=True))
                if words[:1] != ("tfcovr",) or words in seen or _ELSEWHERE.search(line):
                    continue
                if words[1] in verbs or " ".join(words[1:3]) in verbs:
                    seen.add(words)
                    yield list(words[1:])


def prepare(folder: Path, demo_dir: Path) -> str:
    """Lay out `folder` as the pages name files, from a finished demo; the id of a clip of its archive."""
    runs = folder / "runs"
    (runs / "index").parent.mkdir(parents=True)
    links = {
        "demo": demo_dir,
        "stage1": demo_dir / "stage1",
        "stage2": demo_dir / "stage2",
        "milvus": demo_dir / "milvus",
        "index": demo_dir / "index",
        "vectors.parquet": demo_dir / "vectors.parquet",
    }
    for name, target in links.items():
        (runs / name).symlink_to(target)
    clips_path = demo_dir / "archive" / "clips.parquet"
    (folder / "triplets.parquet").write_bytes((demo_dir / "triplets.parquet").read_bytes())
    clips = read_clips(clips_path)
    write_clips(folder / "clips.parquet", clips)
    rows = [f"{clip.video_uri},{clip.label}" for clip in clips[:3]]
    (folder / "my_clips.csv").write_text("\n".join(["video_uri,label", *rows]) + "\n")
    rng = np.random.default_rng(0)
    frames_THWC = rng.integers(0, 256, (16 * FPS, 64, 64, 3), np.uint8)
    write_video(folder / "new_video.mp4", [frames_THWC], codec="h264")
    (folder / "videos").mkdir()
    (folder / "videos" / "day1.mp4").symlink_to(folder / "new_video.mp4")
    (runs / "mine").mkdir()
    videos = str(demo_dir / "archive")
    write_archive(
        Archive(
            folder=runs / "mine",
            bundle=demo_dir / "stage2" / "bundle",
            milvus_uri=str(demo_dir / "milvus"),
            collection="clips",
            videos=videos,
            indexed_from=videos,
        )
    )
    return next(clip.clip_id for clip in clips if clip.split == "test")
