"""The factored composer on made vectors whose label pairs training shows in part, and the losses' parts one by one."""

from dataclasses import replace
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.factored import FactoredFusion
from encoders.query_encoder.factors import find_factors
from encoders.query_encoder.fusion import build_fusion
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.free_texts import FreeText, Operation
from training.annotations.triplets.table import Triplet
from training.configs import LoopConfig, Stage2Config
from training.losses import multi_positive_nce
from training.stage2.composer import QueryComposer
from training.stage2.factored import FactorBatches, FactoredComposer
from training.stage2.factors import FactorTable, read_factors
from training.stage2.task import Stage2Task
from training.stage2.text_table import TextTable
from training.trainer.loop import fit

POSITIONS, COUNTS = ("pike", "tuck", "free"), ("0", "1", "2", "3")
LABELS = [f"{p} {c}" for p, c in product(POSITIONS, COUNTS)]
TEXTS = (*POSITIONS, "one more", "one less")
WIDTH = 32


def attributes(label: str) -> dict[str, str]:
    position, count = label.split()
    return {"position": position, "twists": count}


def edited(label: str, text: str) -> str | None:
    position, count = label.split()
    if text in POSITIONS:
        return f"{text} {count}" if text != position else None
    other = int(count) + (1 if text == "one more" else -1)
    return f"{position} {other}" if 0 <= other <= 3 else None


def make_vectors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    parts = {v: rng.normal(size=WIDTH) for v in (*POSITIONS, *COUNTS)}
    vectors = {}
    for label, n in product(LABELS, range(6)):
        position, count = label.split()
        row = parts[position] + parts[count] + 0.3 * rng.normal(size=WIDTH)
        vectors[f"{label}/{n}"] = (row / np.linalg.norm(row)).astype(np.float32)
    return vectors


def make_triplets(hidden: str | None = None) -> dict[str, list[Triplet]]:
    """Half of the pairs are shown, and val asks the others; or all pairs without the count `hidden`, and val asks for it."""
    made: dict[str, list[Triplet]] = {"train": [], "val": []}
    for label, text, n in product(LABELS, TEXTS, range(3)):
        target = edited(label, text)
        if target is None:
            continue
        split = "train" if stable_hash(label, target) % 2 else "val"
        if hidden is not None:
            if label.endswith(hidden):
                continue
            split = "val" if target.endswith(hidden) else "train"
        first = 0 if split == "train" else 3
        made[split].append(
            Triplet(
                query_id=f"{split} {label} {text} {n}",
                query_clip_id=f"{label}/{first + n}",
                edit_text=text,
                target_clip_ids=tuple(f"{target}/{first + k}" for k in range(3)),
                source_label=label,
                target_label=target,
                split=split,
            )
        )
    return made


def make_directions() -> dict[str, np.ndarray]:
    """What a head of stage 1 would have: the middle of each label's clips."""
    vectors = make_vectors()
    means = {label: sum(vectors[f"{label}/{n}"] for n in range(3)) for label in LABELS}
    return {label: mean / np.linalg.norm(mean) for label, mean in means.items()}


def make_task(
    config: Stage2Config, hidden: str | None = None, *, knows_labels: bool = False
) -> Stage2Task:
    vectors, triplets = make_vectors(), make_triplets(hidden)
    texts = TextTable(
        number_by_text={text: n for n, text in enumerate(TEXTS)},
        vectors_UD=torch.eye(len(TEXTS)),
        tokens_UL=torch.zeros(len(TEXTS), 1, dtype=torch.int64),
        mask_UL=torch.ones(len(TEXTS), 1, dtype=torch.int64),
    )
    known = {clip: attributes(clip.split("/")[0]) for clip in vectors}
    factors = find_factors(known.values())
    torch.manual_seed(0)
    fusion = build_fusion(
        FusionConfig(
            kind=config.fusion,
            video_dim=WIDTH,
            text_dim=len(TEXTS),
            projection_dim=32,
            hidden_dim=32,
            dropout=0.0,
            factors=factors if config.fusion == "factored" else (),
        )
    )
    if not isinstance(fusion, FactoredFusion):
        return Stage2Task(QueryComposer(fusion, None, config), triplets, vectors, texts, config)
    table = FactorTable(factors=factors, attributes=known, texts=())
    if knows_labels:
        unshown = {label: attributes(label) for label in LABELS if label.endswith(hidden or "")}
        table = replace(table, unshown=unshown, directions=make_directions())
    train, ids = triplets["train"], sorted(vectors)
    batches = FactorBatches(table, Mock(), train, ids, config, cache_dir=None)
    module = FactoredComposer(fusion, None, config)
    return Stage2Task(module, triplets, vectors, texts, config, batches)


def trained_score(tmp_path, fusion: str, **about) -> float:
    loop = LoopConfig(
        num_epochs=60, batch_size=32, learning_rate=3e-3, weight_decay=0.01, eval_every=60
    )
    config = Stage2Config(loop=loop, fusion=fusion, dropout=0.0, mask_same_label=True)  # type: ignore[arg-type]
    scores: list[dict] = []
    fit(make_task(config, **about), loop, tmp_path / f"{fusion} {about}", on_epoch=scores.append)
    return scores[-1]["val_map@50"]


def test_pairs_that_training_never_shows_are_composed_where_the_combiner_cannot(tmp_path):
    factored, combiner = (trained_score(tmp_path, kind) for kind in ("factored", "combiner"))
    assert factored > combiner + 0.1


def test_a_count_that_no_triplet_shows_is_composed_from_what_stage_1_learned_of_it(tmp_path):
    with_labels, without = (
        trained_score(tmp_path, "factored", hidden="3", knows_labels=knows)
        for knows in (True, False)
    )
    assert with_labels > without + 0.1


def test_generated_texts_are_supervised_on_every_slot():
    config = Stage2Config(
        loop=LoopConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0),
        fusion="factored",
    )
    task = make_task(config)
    module = task.module
    assert isinstance(module, FactoredComposer)
    module.eval()
    (batch,) = task.batches(0, [np.arange(4)])
    assert "free_truth_0" not in batch
    without = module(batch)["loss"]
    position, twists = module.fusion.config.factors
    text = FreeText(
        text="x", operations=(Operation(factor=position, kind="set_value", value="tuck"),)
    )
    truths = [torch.from_numpy(truth)[None] for truth in text.truths((position, twists))]
    batch |= {"free_text": torch.eye(len(TEXTS))[1:2], "free_truth_0": truths[0], "free_truth_1": truths[1]}  # fmt: skip
    matrices = module.fusion.edits(batch["free_text"])
    expected = 0.0
    for matrix, truth in zip(matrices, truths, strict=True):
        for row in range(truth.shape[1]):
            expected -= (
                torch.log(matrix[0, row, int(truth[0, row].argmax())] + 1e-6).item()
                / (truth.shape[1])
            )
    assert (module(batch)["loss"] - without).item() == pytest.approx(expected, rel=1e-4)


def test_every_clip_of_a_label_is_a_positive():
    cosine = torch.tensor([[0.9, 0.8, 0.1], [0.7, 0.9, 0.0], [0.2, 0.1, 0.5]])
    is_same = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    logits = cosine / 0.5
    expected = 0.0
    for row in range(3):
        positives = [c for c in range(3) if is_same[row, c]]
        expected -= float(logits[row].log_softmax(0)[positives].mean()) / 3
        expected -= float(logits[:, row].log_softmax(0)[positives].mean()) / 3
    assert float(multi_positive_nce(cosine, is_same, temperature=0.5)) == pytest.approx(expected)


def test_factors_come_from_label_names_where_clips_have_none_and_from_nothing_else():
    config = Stage2Config(
        loop=LoopConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0),
        fusion="factored",
        num_free_texts=20,
    )

    def triplet(source: str, target: str) -> Triplet:
        return Triplet(
            query_id=source, query_clip_id=f"{source}/0", edit_text="x",
            target_clip_ids=(f"{target}/0",), source_label=source, target_label=target,
        )  # fmt: skip

    table = read_factors(config, [triplet("107b", "5253b")], None)
    assert [factor.name for factor in table.factors] == [
        "somersaults",
        "take_off",
        "twists",
    ]
    assert len(table.texts) == 20
    values = table.values(["107b/0", "unknown"])
    assert table.factors[2].values[values[0, 2]] == "0"
    assert values[1].tolist() == [-1, -1, -1]
    assert read_factors(config, [triplet("cooking", "running")], None).factors == ()


def test_labels_that_stage_1_learned_and_no_triplet_shows_bring_their_values():
    config = Stage2Config(
        loop=LoopConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0),
        fusion="factored",
        num_free_texts=20,
    )
    triplet = Triplet(
        query_id="q", query_clip_id="107b/0", edit_text="x", target_clip_ids=("5253b/0",),
        source_label="107b", target_label="5253b",
    )  # fmt: skip
    directions = {label: np.eye(3, dtype=np.float32)[0] for label in ("107b", "101c", "cooking")}
    table = read_factors(config, [triplet], None, directions)
    assert list(table.unshown) == ["101c"]  # one is shown, the other has no attributes
    slots = table.unshown_values()[0].tolist()
    values = {f.name: f.values[slot] for f, slot in zip(table.factors, slots, strict=True)}
    assert (values["position"], values["somersaults"]) == ("tuck", "0.5")


@pytest.mark.parametrize(
    ("source", "target", "text", "expected"),
    [
        ("103b", "105b", "now with one more somersault", ("more", "somersaults", "1")),
        ("105b", "103b", "the same with 1 somersault less", ("fewer", "somersaults", "1")),
        ("103b", "105b", "with 2.5 somersaults", ("set_number", "somersaults", "2.5")),
        ("5132d", "5134d", "with two twists", ("set_number", "twists", "2")),
        ("5132d", "5134d", "one twist more", ("more", "twists", "1")),
        ("103b", "105b", "with two more somersaults", None),  # the labels say one
        ("103b", "105b", "with one more twist", None),
        ("103b", "105b", "a longer dive", None),
    ],
)
def test_an_edit_that_counts_is_supervised_on_every_slot_and_not_only_its_own(
    source, target, text, expected
):
    config = Stage2Config(
        loop=LoopConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0),
        fusion="factored",
        num_free_texts=0,
    )
    named = [("103b", "105b", "x"), ("5132d", "5134d", "x"), (source, target, text)]
    triplets = [
        Triplet(
            query_id=str(n), query_clip_id=f"{a}/0", edit_text=edit, target_clip_ids=(f"{b}/0",),
            source_label=a, target_label=b,
        )
        for n, (a, b, edit) in enumerate(named)
    ]  # fmt: skip
    table = read_factors(config, triplets, None)
    matrices, numbers_NF = table.counted_edits(triplets)
    assert not numbers_NF[:2].any()
    counted = {
        factor.name: matrices[f][numbers_NF[2, f]]
        for f, factor in enumerate(table.factors)
        if numbers_NF[2, f]
    }
    if expected is None:
        assert counted == {}
        return
    kind, name, value = expected
    factor = next(factor for factor in table.factors if factor.name == name)
    numbers = [float(present) for present in factor.present]
    for slot, number in enumerate(numbers):
        sums = {"set_number": 0, "more": number, "fewer": number}
        goal = sums[kind] + (-1 if kind == "fewer" else 1) * float(value)
        assert numbers[int(counted[name][slot].argmax())] == np.clip(goal, numbers[0], numbers[-1])
    assert list(counted) == [name]
