"""The options by which search, shell, serve and mcp are told what to search. Imports nothing heavy, for their --help."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from indexing.archive_folder import Archive


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveOptions:
    """An archive folder, or what it would name."""

    archive: tyro.conf.Positional[Path | None] = None
    """Folder that `tfcovr build` made; it names bundle, collection and videos."""
    bundle: Path | None = None
    """Without an archive folder: the bundle that indexed the archive, or one with the same encoder id."""
    milvus_uri: str = ""
    """Without an archive folder: Milvus to search, a folder (Milvus Lite) or http://HOST:19530."""
    videos_root: str | None = None
    """Where the videos of the archive folder are now, if they were moved."""
    collection: str = "clips"
    """Without an archive folder: the collection to search, or an alias of it."""

    def located(self) -> "Archive":
        """The archive of the folder, or of the options that name its parts; ValueError where it is both or neither."""
        from indexing.archive_folder import Archive, read_archive

        if self.archive is not None:
            if self.bundle is not None or self.milvus_uri:
                raise ValueError("give an archive folder, or --bundle and --milvus-uri; not both")
            return read_archive(self.archive, videos_root=self.videos_root)
        if self.bundle is None or not self.milvus_uri:
            raise ValueError(
                "give an archive folder (`tfcovr build` makes one), or --bundle and --milvus-uri"
            )
        if self.videos_root is not None:
            raise ValueError("videos_root is for an archive folder")
        return Archive(
            folder=Path(),
            bundle=self.bundle,
            milvus_uri=self.milvus_uri,
            collection=self.collection,
            videos="",
            indexed_from="",
        )
