"""Search of moments through Milvus: a replay is one answer with what it shows again, and a file is cut to its best moment."""

import shutil

import numpy as np

from encoders.bundle.card import read_card
from encoders.bundle.moments import save_moment_head
from encoders.video_encoder.config import MomentConfig
from encoders.video_encoder.moment_head import MomentHead
from encoders.video_encoder.proposals import Moment
from indexing.clipping import moments as moments_module
from indexing.search.client import SearchClient, SearchOptions
from indexing.store.collection import open_collection
from tests.support.small_videos import write_video

NUM_LIVE = 20


def test_replays_take_no_places_and_a_file_is_cut(tiny_bundle, tmp_path, monkeypatch) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    save_moment_head(bundle, MomentHead(MomentConfig(width=8)))
    card = read_card(bundle)
    rng = np.random.default_rng(0)
    live_ND = rng.normal(size=(NUM_LIVE, card.embedding_dim)).astype(np.float32)
    rows = []
    for n, live_D in enumerate(live_ND):
        for turn in range(4):  # the live clip, then three replays, each a little farther from it
            vector_D = live_D + 0.02 * turn * rng.normal(size=live_D.shape)
            rows.append(
                {
                    "clip_key": f"k{n:02d}-{turn}", "clip_id": f"c{n}-{turn}", "video_uri": "/v.mp4", "label": "", "split": "",
                    "backend": "onnx", "precision": "float32", "start_s": 10.0 * n + turn, "end_s": 10.0 * n + turn + 0.9,
                    "attributes": {"replay_of": f"c{n}-0"} if turn else {},
                    "embedding": (vector_D / np.linalg.norm(vector_D)).tolist(),
                }
            )  # fmt: skip
    with open_collection(str(tmp_path / "milvus"), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()
    video = write_video(tmp_path / "query.mp4", 1, num_frames=50)
    best = Moment(start_s=0.4, end_s=1.2, score=0.9, is_replay=False)
    monkeypatch.setattr(moments_module, "find_moments", lambda *_, **__: [best])
    options = SearchOptions(backend="torch", num_threads=1)
    with SearchClient(str(tmp_path / "milvus"), "clips", bundle, options=options) as client:
        for clip in ("c3-0", "c3-2"):
            hits = client.search(clip=clip, limit=8).hits
            performances = [hit.clip_id.split("-")[0] for hit in hits]
            assert len(set(performances)) == 8
            assert "c3" not in performances
        whole, given = (client.search(clip=f"{video}{span}").query for span in ("", "@0-1.9"))
        assert (whole.start_s, whole.end_s) == (0.4, 1.2)
        assert (given.start_s, given.end_s) == (0.0, 1.9)
        assert "replay_of" not in client.snapshot.count_all().attributes
