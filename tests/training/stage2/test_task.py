import numpy as np
import pytest
import torch

from encoders.metrics import average_precision_at_k
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from training.annotations.triplets.table import Triplet
from training.configs import LoopConfig, Stage2Config
from training.losses import LOSSES, Loss, hn_nce
from training.stage2.composer import QueryComposer
from training.stage2.task import Stage2Task, select_triplets
from training.stage2.text_table import TextTable
from training.trainer.loop import World

NUM_CLIPS, VIDEO_DIM, TEXT_DIM = 12, 6, 5


def config(**changes) -> Stage2Config:
    loop = LoopConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0, seed=2)
    return Stage2Config(loop=loop, dropout=0.0, **changes)


def make_triplets(split: str) -> list[Triplet]:
    return [
        Triplet(
            query_id=f"{split}-{n}",
            query_clip_id=f"c{n:02d}",
            edit_text=f"text {n % 3}",
            target_clip_ids=tuple(f"c{(n + k) % NUM_CLIPS:02d}" for k in range(1, 2 + n % 4)),
            target_label=f"label {n % 2}",
            split=split,
        )
        for n in range(NUM_CLIPS)
    ]


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(NUM_CLIPS, VIDEO_DIM)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return {f"c{n:02d}": row for n, row in enumerate(x)}


def make_task(vectors, **changes) -> Stage2Task:
    torch.manual_seed(0)
    fusion = build_fusion(
        FusionConfig(kind="mean", video_dim=VIDEO_DIM, text_dim=TEXT_DIM, inputs="both")
    )
    texts = TextTable(
        number_by_text={f"text {n}": n for n in range(3)},
        vectors_UD=torch.nn.functional.normalize(torch.randn(3, TEXT_DIM)),
        tokens_UL=torch.zeros(3, 1, dtype=torch.int64),
        mask_UL=torch.ones(3, 1, dtype=torch.int64),
    )
    triplets = {"train": make_triplets("train"), "val": make_triplets("val")}
    stage2 = config(**changes)
    return Stage2Task(QueryComposer(fusion, None, stage2), triplets, vectors, texts, stage2)


def test_targets_are_drawn_among_the_triplets_own_and_anew_in_each_epoch(vectors) -> None:
    task = make_task(vectors)
    ids, triplets = sorted(vectors), make_triplets("train")
    epochs = [task.draw_targets(epoch) for epoch in range(30)]
    for number, triplet in enumerate(triplets):
        drawn = {ids[epoch[number]] for epoch in epochs}
        assert drawn == set(triplet.target_clip_ids)
    assert np.array_equal(epochs[7], task.draw_targets(7))


@pytest.mark.parametrize("mask_same_label", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_triplets(vectors, mask_same_label) -> None:
    task = make_task(vectors, mask_same_label=mask_same_label)
    step = np.array([3, 0, 8, 5])
    batch = next(task.batches(4, [step]))
    targets = task.draw_targets(4)
    triplets, ids = make_triplets("train"), sorted(vectors)
    target_NV = torch.tensor(np.stack([vectors[ids[targets[n]]] for n in step]))
    assert torch.equal(batch["target"], target_NV)
    clip_NV = torch.tensor(np.stack([vectors[triplets[n].query_clip_id] for n in step]))
    assert torch.equal(batch["video"], clip_NV)
    labels = [triplets[n].target_label for n in step]
    ignored = torch.tensor(
        [[a == b and i != j for j, b in enumerate(labels)] for i, a in enumerate(labels)]
    )
    queries = task.module.fusion(clip_NV, batch["text"])
    expected = hn_nce(queries @ target_NV.T, is_ignored_NN=ignored if mask_same_label else None)
    assert task.module(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_loss_is_added_by_name_alone(vectors, monkeypatch) -> None:
    def margin(cosine_NN, is_ignored_NN, config):
        gap = config.loss_options["margin"] - cosine_NN.diagonal()[:, None] + cosine_NN
        return gap.clamp(min=0).mean()

    monkeypatch.setitem(LOSSES, "margin", Loss(stage=2, compute=margin))
    task = make_task(vectors, loss="margin", loss_options={"margin": 0.2})
    batch = next(task.batches(0, [np.array([3, 0, 8, 5])]))
    queries = task.module.fusion(batch["video"], batch["text"])
    cosine = queries @ batch["target"].T
    expected = (0.2 - cosine.diagonal()[:, None] + cosine).clamp(min=0).mean()
    assert task.module(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_validation_is_the_mean_of_average_precision(vectors) -> None:
    task = make_task(vectors)
    with torch.no_grad():
        (total, count) = task.evaluate(World())["val_map@50"]
        halves = [task.evaluate(World(rank=r, size=2))["val_map@50"] for r in (0, 1)]
        expected = []
        for n, triplet in enumerate(make_triplets("val")):
            inputs = task._inputs("val", torch.tensor([n]))
            query = task.module.queries(inputs)[0].numpy()
            others = [clip for clip in vectors if clip != triplet.query_clip_id]
            ranking = sorted(others, key=lambda clip: -float(query @ vectors[clip]))
            expected.append(average_precision_at_k(ranking, set(triplet.target_clip_ids), k=50))
    assert count == NUM_CLIPS
    assert total == pytest.approx(sum(expected))
    assert sum(half[0] for half in halves) == pytest.approx(total)


def test_triplets_lose_what_has_no_vector(vectors) -> None:
    triplets = make_triplets("train") + make_triplets("val")
    del vectors["c05"]
    chosen = select_triplets(triplets, vectors, config())
    for part in chosen.values():
        assert len(part) < NUM_CLIPS
        for triplet in part:
            assert {triplet.query_clip_id, *triplet.target_clip_ids} <= vectors.keys()
    with pytest.raises(
        ValueError,
        match=r"val_split is 'val', and no triplet has that split; it must be one of \['train'\]",
    ):
        select_triplets(make_triplets("train"), vectors, config())
