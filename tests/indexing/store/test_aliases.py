"""On Milvus Lite and on a Milvus server."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest
from pymilvus import MilvusClient

from indexing.store.aliases import Catalog, Swap, open_catalog
from indexing.store.collection import ClipCollection, EncoderMismatchError, open_collection

DIM = 8
_numbers = count()


@pytest.fixture(scope="module")
def catalog(milvus_uri: str) -> Iterator[Catalog]:
    with open_catalog(milvus_uri) as opened:
        for name in ("old", "new", "third"):
            fill(opened.address, name)
        yield opened


@pytest.fixture
def alias() -> str:
    return f"live_{next(_numbers)}"


def fill(address: str, name: str, num_rows: int = 3) -> None:
    collection = ClipCollection(address, name)
    collection.create_or_check(encoder_id=f"encoder-{name}", embedding_dim=DIM)
    texts = dict.fromkeys(("video_uri", "label", "split", "backend", "precision"), "")
    rows = [
        texts
        | {"clip_key": f"{name}-{i}", "clip_id": str(i), "start_s": 0.0, "end_s": 1.0}
        | {"attributes": {}, "embedding": np.eye(DIM)[i].tolist()}
        for i in range(num_rows)
    ]
    collection.upsert(rows)
    collection.flush()
    collection.close()


def test_an_alias_goes_forward_and_back_and_then_refuses(catalog: Catalog, alias: str) -> None:
    assert catalog.promote(alias, "old") == Swap(alias=alias, before=None, after="old")
    with pytest.raises(ValueError, match="named nothing before it"):
        catalog.rollback(alias)
    assert catalog.promote(alias, "new").before == "old"
    assert catalog.promote(alias, "third", encoder_id="encoder-third").before == "new"
    assert catalog.stored("third").previous == {alias: "new"}
    assert alias in catalog.stored("third").aliases
    assert catalog.rollback(alias) == Swap(alias=alias, before="third", after="new")
    assert catalog.rollback(alias).after == "old"
    with pytest.raises(ValueError, match="nothing to go back to"):
        catalog.rollback(alias)
    assert catalog.target(alias) == "old"


def test_whoever_opened_an_alias_keeps_the_collection_of_its_encoder(catalog, alias) -> None:
    catalog.promote(alias, "old")
    with open_collection(catalog.address, alias) as opened:
        opened.check(encoder_id="encoder-old")
        catalog.promote(alias, "new")
        assert opened.nearest(np.eye(DIM)[1], limit=1)[0][1]["clip_key"] == "old-1"
    with open_collection(catalog.address, alias) as opened:
        with pytest.raises(EncoderMismatchError, match=r"'encoder-new'.*'encoder-old'"):
            opened.check(encoder_id="encoder-old")
        opened.check(encoder_id="encoder-new")
        assert opened.name == "new"


def test_a_generation_is_told_from_the_alias_and_a_rollback_that_was_killed_is_finished(
    catalog: Catalog, alias: str, monkeypatch
) -> None:
    def told() -> tuple[str, str]:
        generation = catalog.generation(alias, present="old", following="new")
        return generation, catalog.before(alias, "new")

    catalog.promote(alias, "old")
    assert told() == ("both", "old")
    catalog.promote(alias, "new")
    assert told() == ("next", "old")

    def killed(*_args, **_how):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(catalog.pymilvus, "alter_alias", killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.rollback(alias)
    assert told() == ("next", "old")
    assert catalog.rollback(alias).after == "old"
    assert told() == ("present", "old")
    catalog.promote(alias, "third")
    assert told() == ("present", "third")
    catalog.promote(alias, "new")
    assert told() == ("next", "third")


def test_promoting_twice_forgets_nothing(catalog: Catalog, alias: str) -> None:
    catalog.promote(alias, "old")
    catalog.promote(alias, "new")
    assert catalog.promote(alias, "new") == Swap(alias=alias, before="new", after="new")
    assert catalog.rollback(alias).after == "old"


def test_a_promotion_that_another_process_overtook_changes_nothing(
    catalog: Catalog, alias: str, monkeypatch
) -> None:
    catalog.promote(alias, "old")
    check = catalog._check_finds_itself

    def overtaken(stored) -> None:
        monkeypatch.setattr(catalog, "_check_finds_itself", check)
        Catalog(catalog.address).promote(alias, "third")
        check(stored)

    for change in (lambda: catalog.promote(alias, "new"), lambda: catalog.rollback(alias)):
        monkeypatch.setattr(catalog, "_check_finds_itself", overtaken)
        with pytest.raises(
            ValueError, match=f"'{alias}' names 'third' and was expected to name '(old|new)'"
        ):
            change()  # fmt: skip
        assert catalog.target(alias) == "third"
        assert catalog.promote(alias, "new", expected="third").before == "third"
    with pytest.raises(ValueError, match="was expected to name 'nothing'"):
        catalog.promote(alias, "old", expected="")


def test_of_two_promotions_at_once_one_is_refused_or_follows_the_other(catalog, alias) -> None:
    catalog.promote(alias, "old")

    def promote(name: str) -> Swap | None:
        try:
            return Catalog(catalog.address).promote(alias, name)
        except ValueError:
            return None

    with ThreadPoolExecutor(2) as pool:
        swaps = [swap for swap in pool.map(promote, ("new", "third")) if swap]
    assert catalog.target(alias) in {swap.after for swap in swaps}
    named = [alias_target for swap in swaps for alias_target in (swap.before, swap.after)]
    assert len(swaps) == 1 or len(set(named)) == 3  # one after the other, none forgotten


def test_aliases_that_change_at_once_are_all_there_afterwards(catalog: Catalog) -> None:
    aliases = [f"at_once_{next(_numbers)}" for _ in range(4)]
    with ThreadPoolExecutor(len(aliases)) as pool:
        list(pool.map(lambda alias: Catalog(catalog.address).promote(alias, "old"), aliases))
    assert set(aliases) <= set(catalog.aliases_of("old"))


def test_what_nobody_should_ask_is_not_promoted(catalog: Catalog, alias: str) -> None:
    with pytest.raises(EncoderMismatchError, match=r"'encoder-new'.*'another'"):
        catalog.promote(alias, "new", encoder_id="another")
    with pytest.raises(ValueError, match=r"no collection 'gone'; it has: .*new, old"):
        catalog.promote(alias, "gone")
    with pytest.raises(ValueError, match="'old' is a collection and cannot be an alias"):
        catalog.promote("old", "new")
    with pytest.raises(ValueError, match=f"no alias '{alias}'"):
        catalog.rollback(alias)
    fill(catalog.address, "empty", num_rows=0)
    with pytest.raises(ValueError, match="'empty' is empty"):
        catalog.promote(alias, "empty")
    client = MilvusClient(uri=catalog.address)
    client.create_collection("foreign", dimension=DIM)
    with pytest.raises(ValueError, match="'foreign' was not made by `tfcovr index`"):
        catalog.promote(alias, "foreign")
    assert catalog.target(alias) is None
    for name in ("empty", "foreign"):
        client.drop_collection(name)
    client.close()


def test_a_collection_that_is_gone_is_not_gone_back_to(catalog: Catalog, alias: str) -> None:
    fill(catalog.address, "short_lived")
    catalog.promote(alias, "short_lived")
    catalog.promote(alias, "old")
    with open_collection(catalog.address, "short_lived") as collection:
        collection.drop()
    with pytest.raises(ValueError, match=r"'short_lived' before 'old'.*no longer there"):
        catalog.rollback(alias)
    assert catalog.target(alias) == "old"


def test_stored_counts_and_dimensions(catalog: Catalog) -> None:
    stored = catalog.stored("new")
    assert (stored.num_clips, stored.embedding_dim, stored.index_type) == (3, DIM, "FLAT")
    assert stored.encoder_id == "encoder-new"
