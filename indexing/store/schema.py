"""Schema of a collection of clip vectors; vectors are float32, or float16 in half the memory."""

import math
import re
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from indexing.store.client import call_milvus
from indexing.store.vector_index import VectorDtype, index_params

_FIELD_TYPES: dict[VectorDtype, DataType] = {
    "float32": DataType.FLOAT_VECTOR,
    "float16": DataType.FLOAT16_VECTOR,
}
_TEXT_BYTES = {
    "clip_id": 1024,
    "video_uri": 4096,
    "label": 1024,
    "split": 256,
    "backend": 64,
    "precision": 64,
}
MOST_BYTES = _TEXT_BYTES | {"attributes": 65_536}
"""Maximum size of each text field in bytes of UTF-8."""
ROW_FIELDS = ("clip_key", *_TEXT_BYTES, "start_s", "end_s", "attributes")
TO_THE_END = -1.0
"""`end_s` of a clip that goes to the end of its video (older servers have no null)."""
UNIT_ERROR = 1e-3
"""A vector whose length is so near to 1 is a unit vector; float16 rounds by half as much."""
_TIMEOUT_S = 60.0
_PROBE_ROWS, _PROBE_DIM = 8, 8
_PROBE_ERROR = 1e-2
"""Tolerance of a cosine; the rounding of float16 is less than a tenth of it."""


def create_collection(
    client: MilvusClient,
    name: str,
    *,
    properties: dict[str, str],
    embedding_dim: int,
    vector_dtype: VectorDtype,
    index_type: str = "FLAT",
) -> None:
    """Create an empty collection; its properties are its description too, for older servers. ValueError where the server does not support this vector type."""
    if vector_dtype != "float32":
        _require_working(client, vector_dtype)
    description = " ".join(f"{name}={value}" for name, value in properties.items())
    schema = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description=description
    )
    schema.add_field("clip_key", DataType.VARCHAR, is_primary=True, max_length=64)
    for field, length in _TEXT_BYTES.items():
        schema.add_field(field, DataType.VARCHAR, max_length=length)
    schema.add_field("start_s", DataType.DOUBLE)
    schema.add_field("end_s", DataType.DOUBLE)
    schema.add_field("attributes", DataType.JSON)
    schema.add_field("embedding", _FIELD_TYPES[vector_dtype], dim=embedding_dim)
    index = client.prepare_index_params()
    index.add_index("embedding", **index_params(index_type))
    index.add_index("clip_id", index_type=_text_index(client))  # query clips are looked up by it
    call_milvus(
        lambda: client.create_collection(
            name,
            schema=schema,
            index_params=index,
            properties=properties,
            consistency_level="Strong",
            timeout=_TIMEOUT_S,
        )
    )


def vector_dtype_of(described: Mapping[str, Any]) -> VectorDtype:
    """Vector type in the description of a collection."""
    types = {field["type"] for field in described["fields"]}
    return "float16" if DataType.FLOAT16_VECTOR in types else "float32"


def stored_row(row: Mapping[str, Any], vector_dtype: VectorDtype) -> dict[str, Any]:
    """A row in the form that pymilvus takes; one that was read gets its vector back as long as it was stored."""
    stored = dict(row)
    length = stored.pop("vector_length", 1.0)
    if length != 1.0:
        stored["embedding"] = lengthened(row["embedding"], length).tolist()
    if vector_dtype != "float32":
        stored["embedding"] = np.asarray(stored["embedding"], vector_dtype)
    return stored


def lengthened(unit_D: Any, length: float) -> np.ndarray:
    """A vector that `plain_row` made unit length, as it was."""
    return (np.asarray(unit_D, np.float64) * length).astype(np.float32)


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row from pymilvus with its vector as numbers of unit length, and as `vector_length` the stored length where it is another.

    Milvus keeps vectors as long as the encoder made them, which cosines do not see; those of older collections are 1 long.
    pymilvus returns float16 vectors as a list of one bytes object.
    """
    match row.get("embedding"):
        case None:
            return dict(row)
        case [bytes() as packed]:
            stored = np.frombuffer(packed, np.float16).tolist()
        case stored:
            pass
    # In float64, in which Python keeps the numbers: a copy that makes them longer again ends with the same bits.
    vector_D = np.asarray(stored, np.float64)
    length = math.sqrt(vector_D @ vector_D)
    if abs(length - 1) < UNIT_ERROR:
        return dict(row) | {"embedding": stored}
    return dict(row) | {"embedding": vector_D / max(length, 1e-12), "vector_length": length}


def _text_index(client: MilvusClient) -> str:
    """Index type for text fields: before 2.4 only Trie is supported, in Milvus Lite only INVERTED."""
    return "Trie" if _is_before_2_4(_version(client)) else "INVERTED"


def _version(client: MilvusClient) -> str:
    return call_milvus(lambda: client.get_server_version(timeout=_TIMEOUT_S))


def _is_before_2_4(version: str) -> bool:
    return bool(re.match(r"v?2\.[0-3]\.", version))


def _require_working(client: MilvusClient, vector_dtype: VectorDtype) -> None:
    """By its version, by whether it takes the type, and by a few searches."""
    version = _version(client)
    if _is_before_2_4(version):
        # 2.3 stores such vectors but returns wrong results for some searches.
        reason = "it came with 2.4"
    else:
        name = f"tfcovr_probe_{uuid.uuid4().hex}"
        try:
            reason = _probe(client, name, vector_dtype)
        except MilvusException as error:
            reason = error.message
        finally:
            call_milvus(lambda: client.drop_collection(name, timeout=_TIMEOUT_S))
    if reason:
        raise ValueError(
            f"vector_dtype is {vector_dtype!r}, and this Milvus ({version}) does not have it: {reason}; "
            "leave it at 'float32', or use a Milvus server of 2.4 or later"
        )


def _probe(client: MilvusClient, name: str, vector_dtype: VectorDtype) -> str:
    """The defect of searches among vectors of this type, or ""."""
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("number", DataType.INT64, is_primary=True)
    schema.add_field("embedding", _FIELD_TYPES[vector_dtype], dim=_PROBE_DIM)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="COSINE")
    made = {"schema": schema, "index_params": index, "consistency_level": "Strong"}
    call_milvus(lambda: client.create_collection(name, timeout=_TIMEOUT_S, **made))
    vectors_ND = (
        np.random.default_rng(0).normal(size=(_PROBE_ROWS, _PROBE_DIM)).astype(vector_dtype)
    )
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND.astype(np.float32), axis=1, keepdims=True)
    cosines_NN = unit_ND @ unit_ND.T
    rows = [{"number": i, "embedding": vector_D} for i, vector_D in enumerate(vectors_ND)]
    call_milvus(lambda: client.upsert(name, rows, timeout=_TIMEOUT_S))
    answers = call_milvus(
        lambda: client.search(
            name,
            data=list(vectors_ND),
            anns_field="embedding",
            limit=_PROBE_ROWS,
            output_fields=["number"],
            timeout=_TIMEOUT_S,
        )
    )
    for number, hits in enumerate(answers):
        if len(hits) != _PROBE_ROWS:
            return f"it finds {len(hits)} of {_PROBE_ROWS} vectors"
        for hit in hits:
            expected, cosine = float(cosines_NN[number, hit["entity"]["number"]]), hit["distance"]
            if abs(cosine - expected) > _PROBE_ERROR:
                return f"it gives {cosine:.4f} for a cosine of {expected:.4f}"
    return ""
