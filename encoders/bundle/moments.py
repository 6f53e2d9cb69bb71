"""The moment head of a bundle: an entry of the card and a file of its own, added when the encoder is there.

It changes no vector, so that the encoder id stays and nothing that is indexed is stale; the bundle id covers it.
"""

from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch

from encoders.bundle.card import read_card, with_bundle_id, write_card
from encoders.bundle.checks import BundleMismatchError
from encoders.bundle.folder import load_module
from encoders.files import atomic_file, hash_file
from encoders.video_encoder.moment_head import MomentHead

MOMENT_WEIGHTS = "moments.safetensors"


def save_moment_head(folder: Path, head: MomentHead) -> None:
    """Put a head into a bundle, in the place of an older one.

    The card that names it is written last: a kill before that leaves the bundle without a head.
    """
    card = read_card(folder)
    others = {name: value for name, value in card.files.items() if name != MOMENT_WEIGHTS}
    if len(others) < len(card.files):
        write_card(folder, with_bundle_id(replace(card, files=others, moments=None)))
    weights = {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}
    with atomic_file(folder / MOMENT_WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(weights))
    files = others | {MOMENT_WEIGHTS: hash_file(folder / MOMENT_WEIGHTS)}
    write_card(folder, with_bundle_id(replace(card, files=files, moments=head.config)))


def load_moment_head(folder: Path) -> MomentHead:
    """The head of a bundle; BundleMismatchError where it has none, or its file is not the one that the card names."""
    card = read_card(folder)
    if card.moments is None:
        raise BundleMismatchError(
            f"{folder} has no moment head; train one with: tfcovr moments --bundle {folder} --clips CLIPS"
        )
    config = card.moments
    head, _ = load_module(lambda: MomentHead(config), folder, card, MOMENT_WEIGHTS, asdict(config))
    return head.eval()
