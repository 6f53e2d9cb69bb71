"""tfcovr labels: give clips of an archive labels, see what to ask next, import and export."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from indexing.archive_folder import ArchiveOptions
from indexing.commands.search import open_client

if TYPE_CHECKING:
    from indexing.labelling.desk import LabelDesk

EXAMPLES = """
  tfcovr labels runs/mine                                         # how far labelling is, and what to ask next
  tfcovr labels runs/mine --add IMG_0001-2=5152b --add IMG_0002-3=107b
  tfcovr labels runs/mine --import-from clips.parquet             # of tfcovr import-annotations label-studio, osl ...
  tfcovr labels runs/mine --export labels.csv
  tfcovr labels runs/mine --export tasks.json --format label-studio
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ArchiveOptions):
    """Labels of an indexed archive, which `tfcovr serve --labels` writes too, when no service is running."""

    labels: Path | None = None
    """Folder of the labels; none = `labels` in the archive folder."""
    add: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """CLIP_ID=LABEL: give a clip a label, or none (CLIP_ID=); may be repeated."""
    import_from: Path | None = None
    """A clips.parquet whose labels are taken over by the clips of the same videos and spans."""
    export: Path | None = None
    """Write all labelled clips into this file."""
    format: Literal["csv", "label-studio", "osl"] = "csv"
    """Format of the export; `tfcovr build --labels` reads csv."""
    limit: int = 10
    """Number of clips to ask about next."""

    def folder(self) -> Path:
        """Where the labels are."""
        if self.labels is None and self.archive is None:
            raise ValueError("give --labels FOLDER, or an archive folder, in which they are `labels`")  # fmt: skip
        return self.labels or Path(str(self.archive)) / "labels"


def parse_label(text: str) -> tuple[str, str]:
    """(clip id, label) of CLIP_ID=LABEL; ids may hold "=", labels not."""
    clip_id, sign, label = text.rpartition("=")
    if not sign or not clip_id:
        raise ValueError(f"add is {text!r}; it must be CLIP_ID=LABEL")
    return clip_id, label.strip()


def run(config: Config) -> int:
    """Store, export, and say how far labelling is."""
    from contextlib import closing

    from encoders.clips import read_clips
    from indexing.labelling.clicks import Click
    from indexing.labelling.desk import LabelDesk
    from indexing.labelling.export import write_labels
    from indexing.labelling.import_labels import import_labels

    if config.export is not None and (config.export.is_dir() or not config.export.parent.is_dir()):
        raise ValueError(
            f"export is {str(config.export)!r}; it must be a file in a folder that exists"
        )
    given = [parse_label(text) for text in config.add]
    clips = read_clips(config.import_from) if config.import_from is not None else []
    folder = config.folder()
    with open_client(config.located()) as client, closing(LabelDesk(client, folder)) as desk:
        if given:
            desk.store(
                [
                    Click(
                        click_id=secrets.token_urlsafe(16),
                        kind="label",
                        clip_id=clip_id,
                        label=label,
                    )
                    for clip_id, label in given
                ]
            )
        if config.import_from is not None:
            done = import_labels(desk, clips)
            sys.stdout.write(
                f"{config.import_from}: {done.num_new} clips got their label, {done.num_known} had it before\n"
            )
            for ids, what in (
                (done.missing, "have the video and span of no clip of the archive"),
                (done.ambiguous, "were left out, because several videos or labels could be meant"),
            ):
                if ids:
                    sys.stdout.write(f"  {len(ids)} {what}, first: {', '.join(ids[:3])}\n")
        if config.export is not None:
            places = list(desk.labelled())
            write_labels(places, config.format, config.export)
            sys.stdout.write(f"{config.export}: {len(places)} labelled clips ({config.format})\n")
            return 0
        _print_next(desk, config.limit, folder)
    return 0


def _print_next(desk: "LabelDesk", limit: int, folder: Path) -> None:
    from rich.console import Console

    from cluster.tables import text_table

    counts = desk.labels()
    found = desk.refit()
    sys.stdout.write(
        f"{folder}: {sum(counts.values())} clips labelled by clicks, {found.num_labelled} of {len(found.places)} in all; "
        f"heads of {len(found.labels)} labels fitted in {found.seconds:.1f} s\n"
    )
    rows = []
    for place in desk.next_clips(limit):
        suggested = desk.suggestions(place.clip_id, 3)
        text = ", ".join(f"{one.label} {100 * one.probability:.0f} %" for one in suggested)
        rows.append((place.clip_id, place.span(), text))
    if not rows:
        sys.stdout.write("every clip has a label\n")
        return
    title = "the most useful clips to label next"
    Console().print(text_table(("clip", "span", "suggestions"), rows, title=title, whole=("clip",)))
