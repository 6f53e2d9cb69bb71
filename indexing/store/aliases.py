"""Catalog of collections and aliases: promotion of an alias to another collection in one step, and rollback.

The previous target of an alias is a property of its current collection, so it is stored with the vectors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from indexing.sources.uris import public_uri
from indexing.store.client import connect, require_fixed_server
from indexing.store.collection import EncoderMismatchError, encoder_of, open_collection
from indexing.store.endpoint import place_of, require_archive, serve_milvus
from indexing.store.lease import Protected, hold_lease, is_lease

_PREVIOUS = "tfcovr.previous."
_WITHDRAWN = "tfcovr.withdrawn."
"""Beginning of the property of a collection that an alias was taken back from."""
_TIMEOUT_S = 60.0
_POLL_TIMEOUT_S = 5.0
_WAIT_S = 30.0
_SAME_COSINE = 0.999
Generation = Literal["present", "both", "next"]
"""Which collections answer while an encoder is changed: until the alias names the next one, both; that one alone from then on; and
after a rollback the present one alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCollection:
    """A collection as Milvus describes it; `encoder_id` "" = not made by `tfcovr index`."""

    name: str
    num_clips: int | None
    """Number of rows; None = the collection is not loaded since Milvus started."""
    embedding_dim: int
    encoder_id: str
    index_type: str
    aliases: tuple[str, ...] = ()
    previous: Mapping[str, str] = field(default_factory=dict)
    """The collection that each alias named before this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swap:
    """The previous and the new target of an alias; `before` None = the alias is new."""

    alias: str
    before: str | None
    after: str


class Catalog:
    """The collections and aliases of one Milvus."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = connect(address)  # its stubs mix with the async ones

    @property
    def pymilvus(self) -> MilvusClient:
        """The connection itself."""
        return self._client

    def names(self) -> list[str]:
        """The names of all collections with rows, sorted."""
        names = self._client.list_collections(timeout=_TIMEOUT_S)
        return sorted(name for name in names if not is_lease(name))

    def aliases_of(self, name: str) -> list[str]:
        """The aliases that name a collection now."""
        described = self._client.list_aliases(name, timeout=_TIMEOUT_S)
        return sorted(described["aliases"])

    def target(self, alias: str) -> str | None:
        """The collection that an alias names, or None."""
        return next((name for name in self.names() if alias in self.aliases_of(name)), None)

    def stored(self, name: str) -> StoredCollection:
        """The description of a collection; ValueError where it does not exist."""
        self._check_exists(name)
        described = self._client.describe_collection(name, timeout=_TIMEOUT_S)
        properties = dict(described.get("properties") or {})
        vectors = [field for field in described["fields"] if "dim" in (field.get("params") or {})]
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

    def promote(
        self, alias: str, name: str, *, encoder_id: str | None = None, expected: str | None = None
    ) -> Swap:
        """Point an alias to a collection, after checking that it is not empty, holds vectors of this encoder and finds its own clips.

        `expected` is the collection that the alias must name until then ("" = none); None = whatever it names when this begins.
        """
        name = self.target(name) or name  # of a collection whose index was swapped
        target = self.stored(name)
        if not target.encoder_id:
            raise ValueError(f"collection {name!r} was not made by `tfcovr index`")
        if encoder_id is not None and target.encoder_id != encoder_id:
            raise EncoderMismatchError(
                f"collection {name!r} holds vectors of encoder {target.encoder_id!r} and this bundle is "
                f"encoder {encoder_id!r}; promote the collection that this bundle indexed"
            )
        if alias in self.names():
            raise ValueError(
                f"{alias!r} is a collection and cannot be an alias; choose another --alias, such as 'live'"
            )
        before = self.target(alias) if expected is None else expected or None
        self._check_finds_itself(target)
        with self._changing(alias, expected=before):
            if before == name:
                return Swap(alias=alias, before=before, after=name)
            # Written first: after a crash in between the alias is unchanged.
            self._remember(name, alias, {_WITHDRAWN: ""} | ({_PREVIOUS: before} if before else {}))
            if before is None:
                self._client.create_alias(name, alias, timeout=_TIMEOUT_S)
            else:
                self._client.alter_alias(name, alias, timeout=_TIMEOUT_S)
        return Swap(alias=alias, before=before, after=name)

    def rollback(self, alias: str) -> Swap:
        """Point an alias to its previous collection; ValueError where there is none."""
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
        before = self.target(before) or before
        if before not in self.names():
            raise ValueError(
                f"alias {alias!r} named {before!r} before {now!r}, and that collection is no longer there"
            )
        self._check_finds_itself(self.stored(before))
        with self._changing(alias, expected=now):
            # The mark first and the rest last: after a crash in between the same command finishes it.
            self._remember(now, alias, {_WITHDRAWN: "yes"})
            self._client.alter_alias(before, alias, timeout=_TIMEOUT_S)
            # So that a second rollback goes further back instead of undoing the first.
            self._remember(now, alias, {_PREVIOUS: ""})
        return Swap(alias=alias, before=now, after=before)

    @contextmanager
    def _changing(self, alias: str, *, expected: str | None) -> Iterator[None]:
        """Compare and swap: nobody else changes an alias meanwhile, and ValueError where this one was changed before."""
        # One lease for all aliases: Milvus Lite keeps them in one file.
        protected = Protected(whole="aliases", busy="an alias is being changed")
        with hold_lease(self.address, protected, wait_s=_WAIT_S):
            now = self.target(alias)
            if now != expected:
                raise ValueError(
                    f"alias {alias!r} names {now or 'nothing'!r} and was expected to name {expected or 'nothing'!r}: another process "
                    "changed it; look at `tfcovr collections list`, then run the same command again"
                )
            yield

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def generation(self, alias: str, *, present: str, following: str) -> Generation:
        """Where the change of an alias from one collection to another stands."""
        targets, properties = [], {}
        for name in (alias, present, following):
            described: Any = self._client.describe_collection(name, timeout=_POLL_TIMEOUT_S)
            targets.append(described["collection_name"])  # also of one whose index was swapped
            properties = dict(described.get("properties") or {})
        if targets[0] == targets[2]:
            return "next"
        is_withdrawn = properties.get(f"{_WITHDRAWN}{alias}")
        return "both" if targets[0] == targets[1] and not is_withdrawn else "present"

    def before(self, alias: str, name: str) -> str:
        """The collection that an alias named before it was promoted to this one; what it names now, where it was not."""
        now = self.target(alias) or alias
        if now != (self.target(name) or name):
            return now
        before = self.stored(now).previous.get(alias, now)
        return self.target(before) or before

    def _remember(self, name: str, alias: str, values: Mapping[str, str]) -> None:
        properties = {f"{key}{alias}": value for key, value in values.items()}
        self._client.alter_collection_properties(name, properties, timeout=_TIMEOUT_S)

    def _index_type(self, name: str) -> str:
        described: dict[str, Any] | None = self._client.describe_index(name, "embedding")
        return str((described or {}).get("index_type", ""))

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
        rows = self._client.query(name, filter="", output_fields=["count(*)"], timeout=_TIMEOUT_S)
        return int(rows[0]["count(*)"])

    def _check_finds_itself(self, stored: StoredCollection) -> None:
        """ValueError for a collection that must not go live: it cannot be loaded, is empty or returns wrong results."""
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
            require_fixed_server(catalog.pymilvus, address)
            yield catalog
        except MilvusException as error:
            raise OSError(f"Milvus at {public_uri(address)!r}: {error}") from error
        finally:
            catalog.close()
