"""Small moving pictures for the tests that index many of them."""

from pathlib import Path

import av
import numpy as np

from encoders.clips import Clip, write_clips


def write_video(path: Path, seed: int, *, num_frames: int = 12, **options: str) -> Path:
    """A random texture of 48 pixels that moves; any container that its name says."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"} | options)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        picture = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        for turn in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * turn, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_archive(folder: Path, *, num_videos: int, clips_per_video: int) -> Path:
    """Videos of so many clips of six frames each; the path of the clips.parquet beside them."""
    folder.mkdir()
    clips = []
    for number in range(num_videos):
        path = write_video(folder / f"{number:02d}.mp4", number, num_frames=6 * clips_per_video)
        clips += [
            Clip(
                clip_id=f"{number:02d}-{i}",
                video_uri=str(path),
                start_s=i * 0.24,
                end_s=(i + 1) * 0.24,
            )
            for i in range(clips_per_video)
        ]
    write_clips(folder / "clips.parquet", clips)
    return folder / "clips.parquet"
