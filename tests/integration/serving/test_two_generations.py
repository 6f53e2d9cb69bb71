"""The service of one replica as `tfcovr serve` builds it, while a new encoder fills a collection beside."""

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from encoders.bundle.card import read_card
from indexing.serving.config import ServeConfig
from indexing.serving.deploy import app_settings, build_app, collection_settings
from indexing.sources.asked_counts import read_asked_counts
from indexing.store.aliases import open_catalog
from indexing.store.collection import EncoderMismatchError, open_collection
from indexing.store.endpoint import serve_milvus
from tests.support.served_archive import NUM_CLIPS, write_served_archive

NUM_MOVED = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_bundle, other_bundle) -> Path:
    """The served archive, whose first clips the other encoder has read too."""
    folder = tmp_path_factory.mktemp("two_generations")
    write_served_archive(folder, tiny_bundle)
    card = read_card(other_bundle)
    uri = str(folder / "milvus")
    with open_collection(uri, "clips") as old, open_collection(uri, "clips_new") as new:
        old.check(encoder_id=read_card(tiny_bundle).encoder_id)
        rows = old.rows_of_clips([f"clip/{i}" for i in range(NUM_MOVED)])
        new.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        vectors = np.random.default_rng(5).normal(size=(len(rows), card.embedding_dim))
        new.upsert([row | {"embedding": v.tolist()} for row, v in zip(rows, vectors, strict=True)])
        new.flush()
    with open_catalog(uri) as catalog:
        catalog.promote("live", "clips")
    return folder


def service(config: ServeConfig, address: str) -> TestClient:
    settings = app_settings(config, config.located(), token="")
    settings |= collection_settings(config, config.located(), address)
    settings["limits"]["allowed_hosts"] = ("testserver",)
    return TestClient(build_app(settings))


def test_every_clip_is_found_and_what_is_asked_for_is_counted(
    folder: Path, tiny_bundle: Path, other_bundle: Path
) -> None:
    config = ServeConfig(
        bundle=tiny_bundle,
        milvus_uri=str(folder / "milvus"),
        collection="live",
        next_bundle=other_bundle,
        next_collection="clips_new",
        asked=folder / "asked",
    )
    everything = {f"clip/{i}" for i in range(NUM_CLIPS)}
    query = {"clip": "clip/1", "edits": ["in tuck"], "limit": NUM_CLIPS}
    with serve_milvus(config.milvus_uri) as address:
        with service(config, address) as client:
            hits = client.post("/v1/search", json=query).json()["hits"]
            assert {hit["clip_id"] for hit in hits} <= everything - {"clip/1"}
            assert {hit["clip_id"] for hit in hits} & {f"clip/{i}" for i in range(NUM_MOVED)}
            assert {hit["clip_id"] for hit in hits} - {f"clip/{i}" for i in range(NUM_MOVED)}
        counts = read_asked_counts(folder / "asked")
        assert counts["clip/1"] == 1
        assert counts.keys() <= everything
        with open_catalog(address) as catalog:
            catalog.promote("live", "clips_new")
        # Started again after the promotion, by the same command: the new encoder alone, and the way back is open.
        with service(config, address) as client:
            hits = client.post("/v1/search", json=query).json()["hits"]
            assert {hit["clip_id"] for hit in hits} == {
                f"clip/{i}" for i in range(NUM_MOVED) if i != 1
            }
            assert client.get("/v1/clip", params={"id": "clip/11"}).status_code == 200


def test_collections_of_other_encoders_are_refused_before_anything_starts(
    folder: Path, tiny_bundle: Path
) -> None:
    config = ServeConfig(
        bundle=tiny_bundle,
        milvus_uri=str(folder / "milvus"),
        next_bundle=tiny_bundle,
        next_collection="clips_new",
    )
    refused = pytest.raises(EncoderMismatchError, match="clips_new")
    with serve_milvus(config.milvus_uri) as address, refused:
        collection_settings(config, config.located(), address)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"next_collection": "clips_new"}, "next_bundle is None and next_collection 'clips_new'"),
        ({"next_bundle": Path("b")}, "give both or neither"),
        (
            {"next_bundle": Path("b"), "next_collection": "c", "labels": Path("l")},
            "clips are labelled by one encoder",
        ),
    ],
)
def test_half_of_a_next_generation_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServeConfig(bundle=Path("b"), milvus_uri="m", **wrong)
