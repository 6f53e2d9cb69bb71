"""Engines of a bundle on the disk: the record in the card, and the files that it names."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from encoders.bundle.card import read_card, write_card
from encoders.bundle.engine_records import EngineRecord, engine_name
from encoders.files import atomic_file, hash_file


def add_engine(
    bundle_dir: Path, record: EngineRecord, plans: Mapping[str, bytes] | None = None
) -> EngineRecord:
    """The record with its files: `plans` has an engine for each graph, where there are any.

    Files first, the card that names them last. A record of the same target and precision is replaced; those of older files of the
    bundle go.
    """
    files = {}
    for name, plan in (plans or {}).items():
        path = bundle_dir / engine_name(name, record.graphs[name], record.target, record.precision)
        replace_file(path, plan)
        files[path.name] = hash_file(path)
    record = replace(record, files=files)
    card = read_card(bundle_dir)
    kept = [
        engine
        for engine in card.engines
        if all(card.files.get(name) == sha256 for name, sha256 in engine.graphs.items())
        and (engine.target, engine.precision) != (record.target, record.precision)
    ]
    write_card(bundle_dir, replace(card, engines=(*kept, record)))
    named = {name for engine in (*kept, record) for name in engine.files}
    for path in bundle_dir.glob("*.engine"):
        if path.name not in named:
            path.unlink()
    return record


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
