"""What a watch is told. Imports nothing heavy, for its --help."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from encoders.media.container import MediaLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchRules:
    """When a file is taken, and what is not believed."""

    settle_s: float = 2.0
    """A file is taken when it has not changed for so long, nobody writes it and it is whole."""
    patience_s: float = 600.0
    """A file that is still not whole after so long without a change becomes a dead letter; when it changes, it is tried again."""
    max_delete_share: float = 0.2
    """More files than this share (and more than 10, or all) that are missing in a list, as of a disk that is not there, are not taken
    for deleted; 1 = any number is. Files whose deletion was seen are deleted."""

    def __post_init__(self) -> None:
        for name in ("settle_s", "patience_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not 0 <= self.max_delete_share <= 1:
            raise ValueError(f"max_delete_share is {self.max_delete_share}; it must be from 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchConfig:
    """Keep a collection in step with a folder of videos, one clip per file: new, changed, renamed and deleted files.

    What the last `tfcovr index` of the run folder was told beside these options holds too. Index a large archive first: a watch has
    one decoder. End it with Ctrl-C; the same command goes on.
    """

    videos: tyro.conf.Positional[str]
    """Folder of videos, or of object storage such as s3://BUCKET/FOLDER."""
    bundle: Path
    """Bundle whose encoder makes the vectors."""
    milvus_uri: str
    """http://HOST:19530; or a folder (Milvus Lite), which nobody else can search while it is watched."""
    run_dir: Path
    """Ledger and dead letters, as of `tfcovr index`."""
    collection: str = "clips"
    archive: str | None = None
    """Name of the archive among those of the collection; None = as the run folder or the collection records it."""
    rules: WatchRules = field(default_factory=WatchRules)
    poll_s: float = 5.0
    """Time between two listings of object storage or of a network file system; longer where a listing takes long."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """The usual ones = those of the last run of the run folder."""

    def __post_init__(self) -> None:
        if not self.poll_s > 0:
            raise ValueError(f"poll_s is {self.poll_s}; it must be above 0")
