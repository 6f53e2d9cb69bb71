"""Training of the factored fusion: what is read, what the text does, what is decoded, and when the Combiner is to be trusted.

N queries of this worker, G of all workers, V width of clip vectors, F factors, K slots of one factor, R texts, L labels that stage 1
learned, U of them that no triplet shows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.query_encoder.factored import FactoredFusion, apply_edits
from encoders.query_encoder.text_encoder import TextEncoder
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.table import Triplet
from training.configs import Stage2Config
from training.losses import at_least_float32, multi_positive_nce, same_label_mask
from training.stage2.composer import QueryComposer, gather_with_gradient
from training.stage2.factors import FactorTable
from training.stage2.text_table import read_texts

_FOLDS = 3
"""One label pair in so many is hidden from the Combiner while the gate learns."""
_GATE_SHARE = 0.75
"""Share of the epochs in which the gate learns; after them the Combiner learns from all pairs."""
_CONTRAST_WEIGHT = 0.5
_TEXTS_PER_QUERY = 3.0


class FactoredComposer(QueryComposer):
    """Losses of each part on its own; the query itself trains only the gate, on pairs that the Combiner has and has not seen."""

    def __init__(
        self, fusion: FactoredFusion, text: TextEncoder | None, config: Stage2Config
    ) -> None:
        super().__init__(fusion, text, config)
        self._factored = fusion
        self.may_leave_parameters_unused = True

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        fusion = self._factored
        video_NV, text_ND = self.inputs(batch)
        logs = [at_least_float32(log) for log in fusion.read_clips(video_NV)]
        sources = [log.exp() for log in logs]
        matrices = fusion.edits(text_ND)
        targets = [at_least_float32(p) for p in apply_edits(sources, matrices)]
        target_logs = [torch.log(p + 1e-6) for p in targets]
        read_logs = [at_least_float32(log) for log in fusion.read_clips(batch["target"])]
        read = _value_loss(logs, batch["values"]) + _value_loss(read_logs, batch["target_values"])
        edited = _value_loss(target_logs, batch["target_values"])
        known = _known_slots([log.exp().detach() for log in read_logs], batch["target_values"])
        decoded_NV, combined_NV = fusion.decode(targets), fusion.combine(video_NV, text_ND)
        gate_N1 = fusion.gate(
            decoded_NV.detach(), combined_NV.detach(), [p.detach() for p in targets]
        )
        query_NV = gate_N1 * combined_NV.detach() + (1 - gate_N1) * decoded_NV.detach()
        contrast = self._contrast(
            batch, fusion.decode(known), decoded_NV, combined_NV, F.normalize(query_NV, dim=-1)
        )
        counted = _edit_loss(matrices, [batch[f"counted_{n}"] for n in range(len(matrices))])
        loss = read + edited + counted + self._text_loss(batch) + self._label_loss(batch) + contrast
        num_workers = self.num_workers(batch)
        # Only the contrasts are of the whole batch; DDP averages the others over workers as it should.
        return {
            "loss": loss,
            "objective": loss - contrast + contrast * num_workers,
            "read": read,
            "edited": edited,
        }

    def _contrast(self, batch: Mapping[str, Tensor], *queries_NV: Tensor) -> Tensor:
        """The contrastive losses: of clips decoded from their true values, of decoded and combined queries, and of gated ones."""
        known, decoded, combined, gated = (
            gather_with_gradient(at_least_float32(rows)) for rows in queries_NV
        )
        target_GV = gather_with_gradient(batch["target"])
        labels_G = gather_with_gradient(batch["target_label"])
        is_hidden_G = gather_with_gradient(batch["is_hidden"])
        is_same_GG = same_label_mask(labels_G)
        with torch.autocast(target_GV.device.type, enabled=False):
            clips = multi_positive_nce(
                known @ target_GV.T, is_same_GG, temperature=self.config.temperature
            )
            is_shown_G = is_hidden_G == 0
            loss = _CONTRAST_WEIGHT * (clips + self.contrast(decoded, target_GV, labels_G))
            loss = loss + self.contrast(
                combined[is_shown_G], target_GV[is_shown_G], labels_G[is_shown_G]
            )
            trains_gate = is_hidden_G.any().to(loss.dtype)
            return loss + trains_gate * self.contrast(gated, target_GV, labels_G)

    def _label_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Labels that no triplet shows, where stage 1 put their clips: what is read there, and what is decoded from their values."""
        if "unshown_values" not in batch:
            return batch["video"].new_zeros(())
        directions_LV, numbers_U = batch["label_directions"], batch["unshown_labels"]
        logs = [
            at_least_float32(log) for log in self._factored.read_clips(directions_LV[numbers_U])
        ]
        known = _known_slots([log.exp().detach() for log in logs], batch["unshown_values"])
        decoded_UV = at_least_float32(self._factored.decode(known))
        with torch.autocast(decoded_UV.device.type, enabled=False):
            scores_UL = decoded_UV @ directions_LV.T / self.config.temperature
            decoded = F.cross_entropy(scores_UL, numbers_U)
        return _value_loss(logs, batch["unshown_values"]) + _CONTRAST_WEIGHT * decoded

    def _text_loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of what generated texts do to every slot of every factor."""
        if "free_truth_0" not in batch:
            return batch["video"].new_zeros(())
        free = {name.removeprefix("free_"): v for name, v in batch.items() if "free_" in name}
        matrices = self._factored.edits(self.text_vectors(free))
        return _edit_loss(matrices, [free[f"truth_{n}"] for n in range(len(matrices))])


def _edit_loss(matrices: Sequence[Tensor], truths: Sequence[Tensor]) -> Tensor:
    """Cross-entropy of edits [N, K, K] where their truth is known (rows of zeros: it is not), summed over factors."""
    losses = []
    for matrix_NKK, truth_NKK in zip(matrices, truths, strict=True):
        losses_NK = -(truth_NKK * torch.log(at_least_float32(matrix_NKK) + 1e-6)).sum(-1)
        losses.append(losses_NK.sum() / truth_NKK.sum().clamp(min=1))
    return torch.stack(losses).sum()


def _value_loss(logs: Sequence[Tensor], values_NF: Tensor) -> Tensor:
    """Cross-entropy of each factor where its value is known, summed over factors."""
    total = values_NF.new_zeros((), dtype=torch.float32)
    for n, log_NK in enumerate(logs):
        values_N = values_NF[:, n]
        is_known_N = (values_N >= 0).to(log_NK.dtype)
        losses_N = -log_NK.gather(1, values_N.clamp(min=0)[:, None])[:, 0]
        total = total + (losses_N * is_known_N).sum() / is_known_N.sum().clamp(min=1)
    return total


def _known_slots(read: Sequence[Tensor], values_NF: Tensor) -> list[Tensor]:
    """The true values as distributions; what is not known stays as it is read."""
    slots = []
    for n, read_NK in enumerate(read):
        values_N = values_NF[:, n]
        true_NK = F.one_hot(values_N.clamp(min=0), read_NK.shape[1]).to(read_NK.dtype)
        slots.append(torch.where((values_N >= 0)[:, None], true_NK, read_NK))
    return slots


class FactorBatches:
    """The inputs of the factored losses for the rows of a batch."""

    def __init__(
        self,
        table: FactorTable,
        text: TextEncoder,
        triplets: Sequence[Triplet],
        clip_ids: Sequence[str],
        config: Stage2Config,
        *,
        cache_dir: Path | None,
    ) -> None:
        self._config = config
        self._values_MF = table.values(clip_ids)
        self._truths = table.truths()
        self._operations, self._counted_NF = table.counted_edits(triplets)
        self._texts = None
        if table.texts and config.inputs != "video":
            free = [free_text.text for free_text in table.texts]
            self._texts = read_texts(free, text, cache_dir=cache_dir)
        self._labels: dict[str, Tensor] = {}
        if table.unshown:
            labels = list(table.directions)
            self._labels = {
                "label_directions": torch.from_numpy(np.stack(list(table.directions.values()))),
                "unshown_labels": torch.tensor([labels.index(label) for label in table.unshown]),
                "unshown_values": table.unshown_values(),
            }
        self._is_fold_N = torch.tensor(
            [
                stable_hash("fold", config.loop.seed, t.source_label or "", t.target_label or "") % _FOLDS == 0
                for t in triplets
            ]
        )  # fmt: skip

    def rows(
        self, numbers: Tensor, clips: Tensor, targets: Tensor, place: Sequence[int]
    ) -> dict[str, Tensor]:
        """For triplets by number with their clips and drawn targets; `place` is the epoch and more, from which texts are drawn."""
        epoch = place[0]
        learns_gate = epoch < _GATE_SHARE * self._config.loop.num_epochs
        is_hidden_N = self._is_fold_N[numbers] & learns_gate
        batch = {
            "values": self._values_MF[clips],
            "target_values": self._values_MF[targets],
            # A batch of hidden pairs alone would leave the Combiner nothing.
            "is_hidden": (is_hidden_N & ~is_hidden_N.all()).long(),
            **self._labels,
        }
        for n, operations_OKK in enumerate(self._operations):
            batch[f"counted_{n}"] = operations_OKK[self._counted_NF[numbers, n]]
        if self._texts is None:
            return batch
        size = max(1, round(_TEXTS_PER_QUERY * len(numbers)))
        rng = np.random.default_rng([self._config.loop.seed, 2, *place])
        drawn = torch.from_numpy(rng.integers(len(self._truths[0]), size=size))
        text = self._texts.rows(drawn)
        batch |= {f"free_{name}": rows for name, rows in text.items()}
        return batch | {f"free_truth_{n}": truth[drawn] for n, truth in enumerate(self._truths)}
