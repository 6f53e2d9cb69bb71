"""How many workers each stage of indexing gets, and on what, given what Ray has."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from cluster.connect import RaySession

DecodeChoice = Literal["auto", "pyav", "dali"]
DeviceChoice = Literal["auto", "cpu", "cuda"]


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
    decode_backend: Literal["pyav", "dali"]
    decode_device: Literal["cpu", "cuda"]
    embed_device: Literal["cpu", "cuda"]

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
    """auto = dali where there are GPUs and DALI is installed, otherwise pyav."""
    device: DeviceChoice = "auto"
    """Where vectors are made; auto = cuda where there are GPUs."""
    num_decode_workers: int = 0
    num_embed_workers: int = 0
    num_write_workers: int = 0
    """More than one needs a Milvus server; Milvus Lite takes one writer."""


def _has_dali() -> bool:
    return find_spec("nvidia") is not None and find_spec("nvidia.dali") is not None


def choose_workers(options: WorkerOptions, session: RaySession, *, is_lite: bool) -> Workers:
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
    decode = options.decode
    if decode == "auto":
        decode = "dali" if on_gpu and _has_dali() else "pyav"
    decode_on_gpu = on_gpu and decode == "dali"
    cpus = max(session.num_cpus, 1.0)
    if on_gpu:
        num_embed = options.num_embed_workers or num_gpus
        spare = max(int(cpus) - num_embed, 1)
        num_decode = options.num_decode_workers or (num_gpus if decode_on_gpu else spare)
    else:
        # One of each per core: whichever stage has work gets the core. A core of its own would idle when the other is slower.
        num_embed = options.num_embed_workers or int(cpus)
        num_decode = options.num_decode_workers or int(cpus)
    gpu_share = num_gpus / (num_embed + (num_decode if decode_on_gpu else 0)) if on_gpu else 0.0
    gpu_share = gpu_share if gpu_share < 1 else 1.0
    cpu_share = min(1.0, cpus / (num_decode + num_embed))
    return Workers(
        num_decode=num_decode,
        num_embed=num_embed,
        num_write=options.num_write_workers or (1 if is_lite else session.num_nodes),
        cpus_per_decode=cpu_share,
        cpus_per_embed=cpu_share,
        gpus_per_decode=gpu_share if decode_on_gpu else 0.0,
        gpus_per_embed=gpu_share,
        decode_backend=decode,
        decode_device="cuda" if decode_on_gpu else "cpu",
        embed_device="cuda" if on_gpu else "cpu",
    )
