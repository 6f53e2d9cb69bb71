"""tfcovr basket: the spans that searches have saved, as a list of cuts or one video."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXAMPLES = """
  tfcovr search runs/mine "with one more twist" --clip CLIP_ID --save best.basket
  tfcovr basket list best.basket
  tfcovr basket remove best.basket --numbers 2 5
  tfcovr basket export best.basket --to reel.otio reel.edl --reel reel.mp4
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What `tfcovr search --save FILE` has put into a basket: list it, take spans out, export it."""

    do: Annotated[Literal["list", "remove", "export"], tyro.conf.Positional]
    basket: Annotated[Path, tyro.conf.Positional]
    """The file of the basket."""
    numbers: tuple[int, ...] = ()
    """remove: numbers of spans, as `list` shows them."""
    to: tuple[Path, ...] = ()
    """export: lists of cuts, in the format that each name says: .otio, .edl, .fcpxml, .xml (Premiere), .vtt, .llc (LosslessCut) or .json
    (OSL)."""
    reel: Path | None = None
    """export: one MP4 of all spans, without sound."""


def run(config: Config) -> int:
    """Do it, and say what is in the basket."""
    from indexing.handoff.basket import Basket
    from indexing.handoff.cuts import one_line
    from indexing.handoff.reel import SOUND_NOTE, require_reel

    if not config.basket.is_file():
        raise ValueError(
            f"basket is {str(config.basket)!r}, which is not a file; `tfcovr search ... --save {config.basket}` makes it"
        )
    if (config.do == "remove") != bool(config.numbers):
        raise ValueError(f"--numbers says which spans `remove` takes out; {config.do} {'needs it' if config.do == 'remove' else 'takes none'}")  # fmt: skip
    if (config.do == "export") != bool(config.to or config.reel):
        raise ValueError(f"--to and --reel say what `export` writes; {config.do} {'needs one' if config.do == 'export' else 'takes none'}")  # fmt: skip
    if config.reel is not None:
        require_reel(config.reel)
    basket = Basket(config.basket)
    if config.do == "remove":
        basket.remove(config.numbers)
    if config.do == "export":
        if config.to:
            basket.export(*config.to)
            sys.stdout.write(f"cuts: {', '.join(map(str, config.to))}\n")
        if config.reel is not None:
            basket.render(config.reel)
            sys.stdout.write(f"reel: {config.reel} ({len(basket)} spans, {SOUND_NOTE})\n")
        return 0
    for number, span in enumerate(basket, start=1):
        end = "end" if span.end_s is None else f"{span.end_s:.2f}"
        note = f"  {one_line(span.note)}" if span.note else ""
        sys.stdout.write(
            f"{number:>3}  {one_line(span.label or '-')}  {span.start_s:.2f}-{end} s  {one_line(span.video_uri)}{note}\n"
        )
    sys.stdout.write(f"{len(basket)} spans\n")
    return 0
