import pytest

from cluster.ray_session import RaySession
from encoders.media.sampling import SamplingConfig
from indexing.pipeline.workers import (
    WorkerOptions,
    choose_workers,
    clips_per_batch,
    videos_per_group,
)


def session(cpus: float, gpus: float, nodes: int = 1) -> RaySession:
    return RaySession(num_nodes=nodes, num_cpus=cpus, num_gpus=gpus, started_here=True, address="")


@pytest.mark.parametrize("cpus", [1, 2, 3, 16, 64])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("decode", ["pyav", "dali"])
def test_the_workers_always_fit_into_what_ray_has(cpus: int, gpus: int, decode) -> None:
    workers = choose_workers(WorkerOptions(decode=decode), session(cpus, gpus), is_lite=True)
    used_cpus = (
        workers.num_decode * workers.cpus_per_decode + workers.num_embed * workers.cpus_per_embed
    )
    used_gpus = (
        workers.num_decode * workers.gpus_per_decode + workers.num_embed * workers.gpus_per_embed
    )
    assert used_cpus <= cpus + 1e-9
    assert used_gpus <= gpus + 1e-9
    assert (used_gpus > 0) == (gpus > 0)
    assert workers.num_write == 1
    assert workers.embed_device == ("cuda" if gpus else "cpu")


@pytest.mark.parametrize(
    ("options", "gpus", "is_shared", "count"),
    [
        (WorkerOptions(decode="dali"), 2, True, 2),
        (WorkerOptions(decode="dali", num_decode_workers=3), 2, True, 3),
        (WorkerOptions(decode="dali", share_device="off"), 2, False, 2),
        (WorkerOptions(decode="pyav"), 2, False, 2),
        (WorkerOptions(decode="pyav", share_device="on"), 2, True, 2),
        (WorkerOptions(decode="dali"), 0, True, 8),
        (WorkerOptions(num_decode_workers=3), 0, True, 3),
        (WorkerOptions(num_decode_workers=3, num_embed_workers=2), 0, False, 2),
        (WorkerOptions(share_device="off"), 0, False, 8),
        (WorkerOptions(share_device="on"), 0, True, 8),
    ],
)
def test_a_device_is_shared_where_it_decodes(options, gpus, is_shared, count) -> None:
    workers = choose_workers(options, session(8, gpus), is_lite=True)
    assert (workers.is_shared, workers.num_embed) == (is_shared, count)
    if is_shared:
        assert workers.num_decode == workers.num_embed
        assert (workers.cpus_per_embed, workers.gpus_per_embed) == (0, 0)
        # Of two GPUs: one each, or half where a third worker was asked for.
        assert workers.gpus_per_decode == ({2: 1.0, 3: 0.5}[count] if gpus else 0)


def test_shares_of_a_gpu_leave_no_worker_without_a_place() -> None:
    """Three workers on two GPUs: two thirds each would be one a GPU."""
    workers = choose_workers(
        WorkerOptions(decode="dali", share_device="off", num_embed_workers=1, num_decode_workers=2),
        session(8, 2),
        is_lite=True,
    )
    assert (workers.gpus_per_embed, workers.gpus_per_decode) == (0.5, 0.5)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match="Ray has no GPU"):
        choose_workers(WorkerOptions(device="cuda"), session(4, 0), is_lite=True)
    two_counts = WorkerOptions(share_device="on", num_decode_workers=2, num_embed_workers=3)
    with pytest.raises(ValueError, match="num_decode_workers is 2 and num_embed_workers 3"):
        choose_workers(two_counts, session(4, 0), is_lite=True)
    several = WorkerOptions(num_write_workers=3)
    with pytest.raises(ValueError, match="Milvus Lite takes 1"):
        choose_workers(several, session(4, 0), is_lite=True)
    assert choose_workers(several, session(4, 0), is_lite=False).num_write == 3


def test_batches_are_cut_by_bytes_and_leave_every_worker_some() -> None:
    shared = choose_workers(WorkerOptions(), session(2, 0), is_lite=True)
    cpu = choose_workers(WorkerOptions(share_device="off"), session(2, 0), is_lite=True)
    gpu = choose_workers(WorkerOptions(decode="dali"), session(8, 1), is_lite=True)
    base = SamplingConfig(num_frames=12, frame_size=224)
    assert clips_per_batch(base, shared, 10_000) == 2
    assert clips_per_batch(base, cpu, 10_000) == (16 << 20) // (12 * 224 * 224 * 3) == 9
    assert clips_per_batch(base, gpu, 10_000) == 64
    assert clips_per_batch(SamplingConfig(num_frames=4, frame_size=32), cpu, 10_000) == 64
    assert clips_per_batch(SamplingConfig(num_frames=64, frame_size=448), cpu, 10_000) == 1
    assert clips_per_batch(base, cpu, 30) == 4
    assert clips_per_batch(base, cpu, 1) == 1
    with pytest.raises(ValueError, match="frame_size is None"):
        clips_per_batch(SamplingConfig(num_frames=4, frame_size=None), cpu, 10)


def test_videos_of_few_clips_share_batches_and_long_ones_do_not_wait_for_each_other() -> None:
    gpu = choose_workers(WorkerOptions(decode="dali"), session(8, 1), is_lite=True)
    assert videos_per_group(64, gpu, num_clips=40_000, num_videos=40_000) == 256
    assert videos_per_group(64, gpu, num_clips=40_000, num_videos=100) == 1
    assert videos_per_group(64, gpu, num_clips=100, num_videos=100) == 25
    assert videos_per_group(64, gpu, num_clips=1, num_videos=1) == 1
