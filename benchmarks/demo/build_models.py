"""The models of an archive folder, one for each table of labels or encoder that it was built with.

Another table makes another model, in a folder and a collection of its own, so that the archive answers with the one before until the new
one is done. A service may still answer with that one then: it goes with the next build.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.demo.build_encoder import MODELS, Paths
from encoders.bundle.card import CARD_NAME
from encoders.files import hash_file, read_json
from indexing.ledger.summary import SUMMARY
from indexing.pipeline.config import CONFIG

if TYPE_CHECKING:
    from benchmarks.commands.build import Config

_NUM_KEPT = 2


def model_paths(config: "Config", paths: Paths) -> Paths:
    """With the folder of the model that these labels, recipes or encoder make."""
    if config.labels is not None:
        made_of = [hash_file(paths.labelled), config.stage1_recipe, config.stage2_recipe]
    else:
        source = Path(config.encoder or "")
        card = source / CARD_NAME
        name = str(source.resolve()) if config.encoder and source.is_dir() else config.encoder
        made_of = [name, hash_file(card) if config.encoder and card.is_file() else ""]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return Paths(paths.out, model=digest[:8])


def collection_name(config: "Config", paths: Paths) -> str:
    """Of the rows of this model."""
    return f"{config.collection}_{paths.model.name}"


def remove_older_models(paths: Paths, milvus_uri: str) -> list[str]:
    """Remove all models and their collections but this one and the last before it that was indexed; the names of those that went."""
    others = [path for path in (paths.out / MODELS).iterdir() if path != paths.model]
    others.sort(key=_indexed_s, reverse=True)
    older = others[_NUM_KEPT - 1 :]
    for model in older:
        _drop_collection(model, milvus_uri)
        shutil.rmtree(model)
    return [model.name for model in older]


def _indexed_s(model: Path) -> float:
    summary = model / "index" / SUMMARY
    return summary.stat().st_mtime if summary.is_file() else 0.0


def _drop_collection(model: Path, milvus_uri: str) -> None:
    config = model / "index" / CONFIG
    if not config.is_file():
        return
    from indexing.store.collection import open_collection

    with open_collection(milvus_uri, read_json(config)["collection"]) as collection:
        collection.drop()
