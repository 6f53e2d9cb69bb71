from benchmarks.throughput.end_to_end import cpu_seconds_alone, sequential_rate
from encoders.clips import Clip
from tests.support.small_videos import write_video


def test_both_references_of_the_flow_decode_encode_and_write_every_clip(
    tmp_path, tiny_bundle
) -> None:
    write_video(tmp_path / "a.mp4", 1)
    video = str(tmp_path / "a.mp4")
    clips = [
        Clip(clip_id="a", video_uri=video, end_s=0.5),
        Clip(clip_id="b", video_uri=video, start_s=0.5),
    ]
    seconds = cpu_seconds_alone(tiny_bundle, clips, tmp_path)
    assert seconds.keys() == {"decode", "encode", "write"}
    assert all(value > 0 for value in seconds.values())
    assert sequential_rate(tiny_bundle, clips, tmp_path, 1) > 0
