"""The tools of an agent over a search client: describe, find, edit, explain, export. They read only.

Every text of the archive (ids, labels, attributes, file names) stands in the answers as a JSON value and nowhere else.
"""

from dataclasses import asdict
from typing import Any

from indexing.handoff.cuts import make_cuts, pick_of_place
from indexing.handoff.export import FORMATS
from indexing.search.client import SearchClient
from indexing.search.types import ClipPlace, Hit, SearchResult

MAX_LIMIT = 50
_MAX_LABELS = 500


class SearchTools:
    """Arguments and answers are plain JSON values; ValueError says what is wrong with an argument."""

    def __init__(self, client: SearchClient) -> None:
        self._client = client

    def describe(self) -> dict[str, Any]:
        """What the archive holds."""
        client, facts = self._client, self._client.snapshot.facts
        return {
            "collection": client.collection.name,
            "num_clips": client.collection.count(),
            "labels": dict(list(facts.labels.items())[:_MAX_LABELS]),
            "splits": list(facts.splits),
            "attributes": {name: list(values) for name, values in facts.attributes.items()},
            "filters": client.snapshot.fields([]).names(),
            "understands_edits": client.query_encoder.can_compose,
            "says_when_nothing_matches": client.confidence.calibration is not None,
        }

    def find(
        self, text: str = "", limit: int = 10, filters: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Clips whose label or id contains a text, or by filters alone; no similarity."""
        _check_limit(limit)
        if not filters:
            rows = self._client.snapshot.draw_clips(text, limit=limit, seed=0)
        else:
            fields = self._client.snapshot.fields([filters])
            compiled = fields.compile(filters)
            if compiled.duration_s is not None:
                raise ValueError("find takes no filter 'duration_s'; edit does")
            found = self._client.collection.rows(_FIELDS, condition=compiled.condition)
            rows = []
            for row in found:
                if text.lower() in f"{row['label']} {row['clip_id']}".lower():
                    rows.append(row)
                if len(rows) == limit:
                    break
        clips = [
            {
                "clip_id": row["clip_id"],
                "label": row["label"] or None,
                "split": row["split"] or None,
                "attributes": dict(row["attributes"] or {}),
            }
            for row in sorted(rows, key=lambda row: row["clip_id"])
        ]
        hint = "" if clips else self._client.snapshot.unknown_values(filters or {})
        return {"clips": clips, "hint": hint}

    def edit(
        self, clip_id: str = "", edits: list[str] | None = None, limit: int = 10, **how: Any
    ) -> dict[str, Any]:
        """Clips like a clip of the archive, changed as the edits say."""
        _check_limit(limit)
        return _answer(self._search(clip_id, edits or [], limit, how))

    def explain(self, clip_id: str, edits: list[str], hit_clip_id: str) -> dict[str, Any]:
        """How one clip stands to what was asked, attribute by attribute."""
        self._place(hit_clip_id)
        result = self._search(clip_id, edits, 1, {"filters": {"clip_id": hit_clip_id}})
        if not result.hits:
            raise ValueError(
                f"hit_clip_id is {hit_clip_id!r}; it must be another clip than the query's"
            )
        hit = result.hits[0]
        return _hit(hit, 1) | {
            "from_clip": round(hit.from_clip, 4),
            "from_edit": round(hit.from_edit, 4),
            "attributes_of_hit": [
                {
                    "name": c.name,
                    "query_clip": c.before,
                    "hit": c.after,
                    "asked": c.asked,
                    "verdict": c.verdict,
                    "probability": round(c.probability, 4),
                }
                for c in hit.predicted
            ],
            "query_reading": [asdict(reading) for reading in result.reading],
            "unrelated": result.mismatch if result.mismatch in ("text", "clip") else "",
        }

    def export(self, clip_ids: list[str], format: str) -> dict[str, Any]:
        """A list of cuts of clips for an editing program, as text; nothing is written."""
        suffix = f".{format.removeprefix('.').lower()}"
        if suffix not in FORMATS:
            raise ValueError(f"format is {format[:40]!r}; choose one of {', '.join(FORMATS)}")
        if not 0 < len(clip_ids) <= MAX_LIMIT:
            raise ValueError(f"clip_ids has {len(clip_ids)} ids; it must have 1 to {MAX_LIMIT}")
        picks = [
            pick_of_place(place, name=f"{rank:03} {place.label or place.clip_id}")
            for rank, place in enumerate(map(self._place, clip_ids), start=1)
        ]
        return {"file_name": f"reel{suffix}", "content": FORMATS[suffix](make_cuts(picks), "reel")}

    def _search(
        self, clip_id: str, edits: list[str], limit: int, how: dict[str, Any]
    ) -> SearchResult:
        clip = self._place(clip_id).clip_id if clip_id else ""
        return self._client.search(clip=clip, edit=edits, limit=limit, **how)

    def _place(self, clip_id: str) -> ClipPlace:
        """Of the archive alone: a tool opens no file that an agent names."""
        place = self._client.place_of(clip_id)
        if place is None:
            raise ValueError(f"no clip {clip_id[:200]!r} in the archive; `find` lists clips")
        return place


_FIELDS = ("clip_id", "label", "split", "attributes")


def _check_limit(limit: int) -> None:
    if not 0 < limit <= MAX_LIMIT:
        raise ValueError(f"limit is {limit}; it must be 1 to {MAX_LIMIT}")


def _answer(result: SearchResult) -> dict[str, Any]:
    return {
        "hits": [_hit(hit, rank) for rank, hit in enumerate(result.hits, start=1)],
        "has_match": result.has_match,
        "why_nothing_matches": result.mismatch_text(),
    }


def _hit(hit: Hit, rank: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "clip_id": hit.clip_id,
        "label": hit.label,
        "start_s": hit.start_s,
        "end_s": hit.end_s,
        "score": round(hit.score, 4),
        "probability": None if hit.probability is None else round(hit.probability, 4),
        "attributes": dict(hit.attributes),
        "not_as_asked": [
            change.name
            for change in hit.predicted
            if change.verdict in ("not as asked", "changed though not asked")
        ],
    }
