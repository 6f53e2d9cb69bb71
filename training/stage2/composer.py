"""The module that stage 2 trains: fusion, text encoder and contrastive loss against the frozen vectors of target clips.

N queries of this worker, G of all workers, V width of clip vectors, D width of text vectors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch import distributed as dist

from encoders.query_encoder.fusion import Fusion
from encoders.query_encoder.text_encoder import TextEncoder
from encoders.query_encoder.token_reader import TokenReader
from training.configs import Stage2Config
from training.losses import at_least_float32, loss_of, same_label_mask


class QueryComposer(nn.Module):
    """The fusion, the text encoder if it is trained, and the loss against the target vectors."""

    reader: TokenReader | None

    def __init__(self, fusion: Fusion, text: TextEncoder | None, config: Stage2Config) -> None:
        """`text` None = batches bring text vectors, and nothing of the text encoder is trained."""
        super().__init__()
        self.fusion, self.text = fusion, text if config.train_text else None
        # Of a frozen text encoder the reader alone is trained.
        self.reader = None if text is None or config.train_text else text.reader
        self.config, self._loss = config, loss_of(config)
        self.learning_rate_scales = {"text.": config.text_learning_rate_scale}
        self.may_leave_parameters_unused = config.inputs != "both"

    def inputs(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Clip vectors [N, V] and text vectors [N, D], the unused one zeroed."""
        return self.fusion.masked(batch["video"], self.text_vectors(batch))

    def text_vectors(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Text vectors [N, D]: those of the batch with what is read of its token states, or of its tokens where the text encoder is trained."""
        if self.text is not None:
            return self.text(batch["tokens"], batch["mask"])
        if self.reader is None:
            return batch["text"]
        states_TE = batch["states"].to(batch["text"].dtype)
        read_NR = self.reader.read_packed(states_TE, batch["lengths"])
        return torch.cat([batch["text"], read_NR], dim=1)

    def queries(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Unit query vectors [N, V]."""
        return self.fusion(batch["video"], self.text_vectors(batch))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # float32 or finer from here on: a contrastive loss sums exp() of values decades apart.
        query_GV = gather_with_gradient(at_least_float32(self.queries(batch)))
        target_GV = gather_with_gradient(batch["target"])
        labels_G = gather_with_gradient(batch["target_label"])
        with torch.autocast(query_GV.device.type, enabled=False):
            loss = self.contrast(query_GV, target_GV, labels_G)
        # Each worker has the gradient of the whole batch's loss for its own rows only, and DDP averages over workers what
        # should be summed.
        return {"loss": loss, "objective": loss * self.num_workers(batch)}

    def contrast(self, query_GV: Tensor, target_GV: Tensor, labels_G: Tensor) -> Tensor:
        """The loss that the config names, of all workers' queries against their targets."""
        is_ignored_GG = same_label_mask(labels_G) if self.config.mask_same_label else None
        return self._loss(query_GV @ target_GV.T, is_ignored_GG, self.config)

    @staticmethod
    def num_workers(batch: Mapping[str, Tensor]) -> int:
        """Number of workers that the batch is spread over."""
        return dist.get_world_size() if dist.is_initialized() else 1


def gather_with_gradient(rows: Tensor) -> Tensor:
    """The rows of all workers, in rank order; gradients flow to this worker's own rows only."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return rows
    gathered = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, rows.detach().contiguous())
    gathered[dist.get_rank()] = rows
    return torch.cat(gathered)
