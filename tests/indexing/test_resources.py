import pytest

from cluster.connect import RaySession
from indexing.resources import WorkerOptions, choose_workers


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


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(ValueError, match="Ray has no GPU"):
        choose_workers(WorkerOptions(device="cuda"), session(4, 0), is_lite=True)
    several = WorkerOptions(num_write_workers=3)
    with pytest.raises(ValueError, match="Milvus Lite takes 1"):
        choose_workers(several, session(4, 0), is_lite=True)
    assert choose_workers(several, session(4, 0), is_lite=False).num_write == 3
