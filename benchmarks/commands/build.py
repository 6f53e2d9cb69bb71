"""tfcovr build: a folder of videos -> an archive that can be searched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from encoders.media.container import MediaLimits
from indexing.pipeline.config import MAX_DELETE_SHARE, require_share
from training.annotations.labels.splits import SplitShares

EXAMPLES = """
  tfcovr build videos/ --labels labels.csv --out runs/mine        # composed search: clip + "with 2.5 twists"
  tfcovr build videos/ --labels labels.csv --columns label "Dive No." file Clip --out runs/mine
  tfcovr build videos/ --out runs/mine                            # no labels: clips like this clip
  tfcovr build videos/ --encoder openai/clip-vit-base-patch16 --out runs/mine     # words, too
  tfcovr build videos/ --encoder facebook/vjepa2-vitl-fpc64-256 --out runs/mine   # motion
  tfcovr search runs/mine "with one more twist" --clip CLIP_ID
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Make videos searchable: read the table, train, export, index, evaluate. Rerun the same command to resume."""

    videos: tyro.conf.Positional[str]
    """Folder of videos, or a URI such as s3://BUCKET/FOLDER."""
    out: Path
    """The archive folder to make."""
    labels: Path | None = None
    """A CSV with a header and one row per clip: at least the file and a label. None = search by clips alone."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What columns of the CSV mean, where the guess is wrong: file, start, end, duration, label, split or id, and the column."""
    shares: SplitShares = field(default_factory=SplitShares)
    skip_bad: bool = False
    """Leave bad rows of the CSV out, instead of stopping at the first one."""
    encoder: str | None = None
    """Without labels: a bundle, or the Hugging Face name or folder of a model: CLIP or SigLIP (clips and words), DINOv2, V-JEPA 2 or VideoMAE
    (clips). None = the encoder that comes with tfcovr."""
    window_s: float = 4.0
    """Length of the clips that videos without labels are cut into, in seconds."""
    stage1_recipe: str = "demo_actions"
    """Recipe of the video encoder; aim_vit_b16_finegd is the paper's, for a GPU and downloaded CLIP weights."""
    stage2_recipe: str = "demo_fusion_factored"
    """Recipe of the composition; demo_fusion_factored edits each attribute of the labels on its own, demo_fusion learns pairs of labels."""
    milvus_uri: str = ""
    """http://HOST:19530 of a Milvus server; none = a Milvus Lite folder in the archive."""
    collection: str = "clips"
    """Collections are named after it and the model: another table of labels makes another, and this one answers until that is done."""
    prune: bool = False
    """Delete from the archive what an earlier build put there and is not among the videos or rows any more."""
    max_delete_share: float = MAX_DELETE_SHARE
    """Refuse to prune more than this share of the archive, as a folder that is not mounted would; 1 = prune any number."""
    limits: MediaLimits = field(default_factory=MediaLimits)


def run(config: Config) -> int:
    """Build, and say how to ask it. Status 1 where rows, videos or clips were left out."""
    if config.labels is None and (config.columns or config.skip_bad):
        raise ValueError("columns and skip_bad are for --labels")
    if config.labels is not None and config.encoder is not None:
        raise ValueError(
            "encoder is for videos without labels: with --labels the encoder is trained; --stage1-recipe chooses which"
        )
    require_share(config.max_delete_share)
    if not config.window_s > 0:
        raise ValueError(f"window_s is {config.window_s}; it must be above 0")
    if "://" not in config.videos and not Path(config.videos).is_dir():
        raise ValueError(
            f"videos is {config.videos!r}, which is not a folder; it must be a folder or a URI"
        )
    _check_encoder(config.encoder)
    if config.labels is not None and not config.labels.is_file():
        raise ValueError(f"labels is {str(config.labels)!r}, which is not a file")
    from benchmarks.demo.build import build_archive

    return build_archive(config)


def _check_encoder(encoder: str | None) -> None:
    """ValueError for what can neither be a folder of a model nor a name on the hub."""
    if encoder is None:
        return
    folder = Path(encoder)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("card.json", "config.json")):
            raise ValueError(
                f"encoder is {encoder!r}, a folder with neither card.json (a bundle) nor config.json (a model that save_pretrained wrote)"
            )
    elif folder.exists() or encoder.startswith((".", "/", "~")) or encoder.count("/") > 1:
        raise ValueError(
            f"encoder is {encoder!r}, which is not a folder; it must be the folder of a bundle or of a model, or a Hugging Face name such as "
            "openai/clip-vit-base-patch16"
        )
