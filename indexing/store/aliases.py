"""Which collections are there, and which of them does an alias name? An alias goes to another collection in one step, and back.

Where an alias led before is a property of the collection that it leads to now, so it is kept where the vectors are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pymilvus.exceptions import MilvusException

from indexing.sources.uris import public_uri
from indexing.store.client import connect
from indexing.store.collection import EncoderMismatchError, encoder_of, open_collection
from indexing.store.endpoint import place_of, require_archive, serve_milvus

_PREVIOUS = "tfcovr.previous."
_TIMEOUT_S = 60.0
_SAME_COSINE = 0.999


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCollection:
    """A collection as Milvus describes it; `encoder_id` "" = not made by `tfcovr index`."""

    name: str
    num_clips: int | None
    """None = not in the memory of Milvus; nobody has asked it since Milvus started."""
    embedding_dim: int
    encoder_id: str
    index_type: str
    aliases: tuple[str, ...] = ()
    previous: Mapping[str, str] = field(default_factory=dict)
    """Alias -> the collection that it named before this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """What an alias named and what it names now; `before` None = the alias is new."""

    alias: str
    before: str | None
    after: str


class Catalog:
    """The collections and aliases of one Milvus."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = connect(address)  # its stubs mix with the async ones

    def names(self) -> list[str]:
        """Collections, sorted."""
        return sorted(self._client.list_collections(timeout=_TIMEOUT_S))

    def aliases_of(self, name: str) -> list[str]:
        """The aliases that name a collection now."""
        found = self._client.list_aliases(name, timeout=_TIMEOUT_S)
        return sorted(found["aliases"])

    def target(self, alias: str) -> str | None:
        """The collection that an alias names; None where there is no such alias."""
        return next((name for name in self.names() if alias in self.aliases_of(name)), None)

    def stored(self, name: str) -> StoredCollection:
        """Everything of one collection; ValueError where there is none."""
        self._check_exists(name)
        described = self._client.describe_collection(name, timeout=_TIMEOUT_S)
        properties = dict(described.get("properties") or {})
        vectors = [one for one in described["fields"] if "dim" in (one.get("params") or {})]
        return StoredCollection(
            name=name,
            num_clips=self._count(name),
            embedding_dim=int(vectors[0]["params"]["dim"]) if vectors else 0,
            encoder_id=encoder_of(described) or "",
            index_type=self._index_type(name),
            aliases=tuple(self.aliases_of(name)),
            previous={
                key.removeprefix(_PREVIOUS): value
                for key, value in sorted(properties.items())
                if key.startswith(_PREVIOUS) and value
            },
        )

    def promote(self, alias: str, name: str, *, encoder_id: str | None = None) -> Swap:
        """Let the alias name a collection that is there, is not empty, holds vectors of this encoder and finds its own clips."""
        wanted = self.stored(name)
        if not wanted.encoder_id:
            raise ValueError(f"collection {name!r} was not made by `tfcovr index`")
        if encoder_id is not None and wanted.encoder_id != encoder_id:
            raise EncoderMismatchError(
                f"collection {name!r} holds vectors of encoder {wanted.encoder_id!r} and this bundle is "
                f"encoder {encoder_id!r}; promote the collection that this bundle indexed"
            )
        if alias in self.names():
            raise ValueError(
                f"{alias!r} is a collection and cannot be an alias; choose another --alias, such as 'live'"
            )
        self._check_finds_itself(wanted)
        before = self.target(alias)
        if before == name:
            return Swap(alias=alias, before=before, after=name)
        if before is None:
            self._client.create_alias(name, alias, timeout=_TIMEOUT_S)
        else:
            self._remember(
                name, alias, before
            )  # first: a crash in between leaves the alias as it was
            self._client.alter_alias(name, alias, timeout=_TIMEOUT_S)
        return Swap(alias=alias, before=before, after=name)

    def rollback(self, alias: str) -> Swap:
        """Let the alias name what it named before the last promotion; ValueError where there is nothing to go back to."""
        now = self.target(alias)
        if now is None:
            raise ValueError(
                f"Milvus at {place_of(self.address)!r} has no alias {alias!r}; `tfcovr collections list` shows them"
            )
        before = self.stored(now).previous.get(alias)
        if before is None:
            raise ValueError(
                f"alias {alias!r} names {now!r} and named nothing before it; there is nothing to go back to"
            )
        if before not in self.names():
            raise ValueError(
                f"alias {alias!r} named {before!r} before {now!r}, and that collection is no longer there"
            )
        self._check_finds_itself(self.stored(before))
        self._client.alter_alias(before, alias, timeout=_TIMEOUT_S)
        self._remember(now, alias, "")  # a second rollback goes further back, never to and fro
        return Swap(alias=alias, before=now, after=before)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def _remember(self, name: str, alias: str, before: str) -> None:
        self._client.alter_collection_properties(
            name, {f"{_PREVIOUS}{alias}": before}, timeout=_TIMEOUT_S
        )

    def _index_type(self, name: str) -> str:
        found: dict[str, Any] | None = self._client.describe_index(name, "embedding")
        return str((found or {}).get("index_type", ""))

    def _check_exists(self, name: str) -> None:
        names = self.names()
        if name not in names:
            have = ", ".join(names) or "none"
            raise ValueError(
                f"Milvus at {place_of(self.address)!r} has no collection {name!r}; it has: {have}"
            )

    def _count(self, name: str) -> int | None:
        state = self._client.get_load_state(name, timeout=_TIMEOUT_S)["state"]
        if getattr(state, "name", state) != "Loaded":
            return None
        found = self._client.query(name, filter="", output_fields=["count(*)"], timeout=_TIMEOUT_S)
        return int(found[0]["count(*)"])

    def _check_finds_itself(self, stored: StoredCollection) -> None:
        """A collection that cannot be loaded, is empty or answers wrongly must not be asked by everybody."""
        name = stored.name
        with open_collection(self.address, name) as collection:
            collection.check(encoder_id=stored.encoder_id)
            rows = collection.some_rows(("clip_key", "embedding"), limit=1)
            if not rows:
                raise ValueError(f"collection {name!r} is empty; index an archive into it first")
            vector_D = np.asarray(rows[0]["embedding"], np.float32)
            cosine = collection.nearest(vector_D, limit=1)[0][0]
        if cosine < _SAME_COSINE:
            raise ValueError(
                f"collection {name!r} does not find its own clip {rows[0]['clip_key']!r} (nearest cosine "
                f"{cosine:.4f}); index it again"
            )


@contextmanager
def open_catalog(uri: str) -> Iterator[Catalog]:
    """The catalog at any URI; a Milvus Lite folder is served while the block runs."""
    require_archive(uri)
    with serve_milvus(uri) as address:
        catalog = Catalog(address)
        try:
            yield catalog
        except MilvusException as error:
            raise OSError(f"Milvus at {public_uri(address)!r}: {error}") from error
        finally:
            catalog.close()
