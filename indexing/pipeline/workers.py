"""How many workers each stage of indexing gets, and on what, given what Ray has."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from encoders.decoding.backends import (
    DecodeChoice,
    check_decode_choice,
    choose_decode_backend,
    decode_backend,
)
from encoders.media.sampling import SamplingConfig

if TYPE_CHECKING:
    from cluster.ray_session import RaySession

DeviceChoice = Literal["auto", "cpu", "cuda"]
ShareChoice = Literal["auto", "on", "off"]
# It decodes on all engines of the GPU while it encodes; a second one would only take turns with its kernels.
_SHARING_PER_GPU = 1
LIGHT_CPUS = 0.1
"""Of each node, for the workers that mostly wait: fetching, writing. With nothing they would run on a head without cores too."""
# Frames of a batch. On a CPU more does not help: what passes from layer to layer leaves the caches. Workers of two stages hand
# batches to each other, which costs the less the larger they are.
_BATCH_BYTES = {"cpu": 16 << 20, "cuda": 128 << 20}
_SHARED_CPU_BATCH_BYTES = 4 << 20
_MAX_BATCH_CLIPS = 64
# Of a worker at least: the last ones to come out should keep all workers busy.
_BATCHES_PER_WORKER = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """A worker of each stage, and how many of them."""

    num_decode: int
    num_embed: int
    num_write: int
    cpus_per_decode: float
    cpus_per_embed: float
    gpus_per_decode: float
    gpus_per_embed: float
    decode_backend: str
    decode_device: Literal["cpu", "cuda"]
    embed_device: Literal["cpu", "cuda"]
    num_nodes: int = 1
    can_grow: bool = False
    """The pools start with these numbers and grow with the cluster, or shrink to one each."""
    is_shared: bool = False
    """The decode workers encode too; `num_embed` says how many again, and takes nothing."""

    def devices(self) -> dict[str, str]:
        """What the stages that compute run on."""
        return {"decode": self.decode_device, "embed": self.embed_device}

    def by_stage(self, num_fetch: int) -> dict[str, int]:
        """Workers of each stage in the order of the dataflow; 0 fetch workers = no such stage."""
        fetch = {"fetch": num_fetch} if num_fetch else {}
        return fetch | {
            "decode": self.num_decode,
            "embed": self.num_embed,
            "write": self.num_write,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerOptions:
    """What a person may set; 0 workers = choose."""

    decode: DecodeChoice = "auto"
    """What decodes videos; auto = one that uses the GPUs, such as dali, where there are any and it is installed, otherwise pyav."""
    device: DeviceChoice = "auto"
    """Where vectors are made; auto = cuda where there are GPUs."""
    num_decode_workers: int = 0
    num_embed_workers: int = 0
    share_device: ShareChoice = "auto"
    """Decode and encode in the same workers, so that frames stay where they were decoded; auto = where both use the CPU or both a
    GPU, unless you ask for different numbers of them."""
    num_write_workers: int = 0
    """More than one needs a Milvus server; Milvus Lite takes one writer."""

    def __post_init__(self) -> None:
        check_decode_choice(self.decode)


def worker_bundle(options: WorkerOptions) -> dict[str, float]:
    """What a node must have for the least work, before it is known what nodes there are."""
    return {"CPU": 1.0, "GPU": 1.0} if options.device == "cuda" else {"CPU": 1.0}


def choose_workers(options: WorkerOptions, session: "RaySession", *, is_lite: bool) -> Workers:
    """ValueError when a GPU is asked for and there is none, or Lite is to have several writers."""
    num_gpus = int(session.num_gpus)
    if options.device == "cuda" and num_gpus == 0:
        raise ValueError("device is 'cuda' and Ray has no GPU; use 'cpu' or 'auto'")
    if is_lite and options.num_write_workers > 1:
        raise ValueError(
            f"num_write_workers is {options.num_write_workers}; Milvus Lite takes 1, a Milvus "
            "server (http://HOST:19530) any number"
        )
    on_gpu = num_gpus > 0 and options.device != "cpu"
    embed_device = "cuda" if on_gpu else "cpu"
    decode = choose_decode_backend(options.decode, embed_device)
    decode_device = decode_backend(decode).device_kind_for(embed_device)
    decode_on_gpu = decode_device == "cuda"
    cpus = max(session.num_cpus, 1.0)
    wished = {options.num_decode_workers, options.num_embed_workers} - {0}
    if options.share_device == "on" and len(wished) > 1:
        raise ValueError(
            f"num_decode_workers is {options.num_decode_workers} and num_embed_workers {options.num_embed_workers}; where they "
            "share a device they are the same workers: give one number, or --workers.share-device off"
        )
    is_natural = decode_on_gpu == on_gpu and len(wished) < 2
    is_shared = options.share_device == "on" or (options.share_device == "auto" and is_natural)
    if is_shared:
        usual = _SHARING_PER_GPU * num_gpus if on_gpu else int(cpus)
        num_embed = num_decode = max(wished, default=usual)
    elif on_gpu:
        num_embed = options.num_embed_workers or num_gpus
        spare = max(int(cpus) - num_embed, 1)
        num_decode = options.num_decode_workers or (num_gpus if decode_on_gpu else spare)
    else:
        # One of each per core: whichever stage has work gets the core. A core of its own would idle when the other is slower.
        num_embed = options.num_embed_workers or int(cpus)
        num_decode = options.num_decode_workers or int(cpus)
    num_write = options.num_write_workers or (1 if is_lite else session.num_nodes)
    num_on_gpu = num_decode if is_shared else num_embed + (num_decode if decode_on_gpu else 0)
    # A whole number of them on each GPU: shares that do not add up to one leave a worker without a place.
    gpu_share = _floored(1 / math.ceil(num_on_gpu / num_gpus)) if on_gpu else 0.0
    spare_cpus = max(cpus - LIGHT_CPUS * session.num_nodes, 0.5)
    num_heavy = num_decode if is_shared else num_decode + num_embed
    cpu_share = _floored(min(1.0, spare_cpus / num_heavy))
    workers = Workers(
        num_nodes=session.num_nodes,
        can_grow=session.can_grow,
        num_decode=num_decode,
        num_embed=num_embed,
        num_write=num_write,
        cpus_per_decode=cpu_share,
        cpus_per_embed=cpu_share,
        gpus_per_decode=gpu_share if decode_on_gpu else 0.0,
        gpus_per_embed=gpu_share,
        decode_backend=decode,
        decode_device=decode_device,
        embed_device=embed_device,
        is_shared=is_shared,
    )
    if not is_shared:
        return workers
    return replace(workers, gpus_per_decode=gpu_share, gpus_per_embed=0.0, cpus_per_embed=0.0)


def _floored(share: float) -> float:
    """To Ray's ten-thousandths: three times 0.33333 rounded up would not fit."""
    return math.floor(share * 10_000) / 10_000


def clips_per_batch(sampling: SamplingConfig, workers: Workers, num_clips: int) -> int:
    """As many as the bytes of their frames allow, fewer of an archive so small that workers would wait for a full batch."""
    if sampling.frame_size is None:
        raise ValueError("sampling.frame_size is None; a batch needs clips of one size")
    clip_bytes = sampling.num_frames * sampling.frame_size**2 * 3
    most_bytes = _BATCH_BYTES[workers.embed_device]
    if workers.is_shared and workers.embed_device == "cpu":
        most_bytes = _SHARED_CPU_BATCH_BYTES
    most = min(most_bytes // clip_bytes, _MAX_BATCH_CLIPS)
    fair = math.ceil(num_clips / (_BATCHES_PER_WORKER * workers.num_embed))
    return max(min(most, fair), 1)


def videos_per_group(batch_size: int, workers: Workers, num_clips: int, num_videos: int) -> int:
    """Videos whose clips share batches: enough for some full ones, where videos have few clips each; every worker gets groups."""
    enough = math.ceil(_BATCHES_PER_WORKER * batch_size * num_videos / num_clips)
    fair = num_videos // (_BATCHES_PER_WORKER * workers.num_decode)
    return max(min(enough, fair), 1)
