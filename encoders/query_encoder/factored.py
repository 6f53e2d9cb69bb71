"""Fusion by factors: the clip's attributes are read, the edit text acts on each, and the result is decoded to one query vector.

The text alone gives a row-stochastic matrix per factor, a mixture of four operations: keep, set, shift along the number line, and map
(swap, "the opposite"). Applied to the values read from the clip it gives the target's. The Combiner stands beside it behind a
gate: it is better on label pairs that training showed, and all there is for labels without attributes.

N queries, V width of clip vectors, D width of text vectors, F factors, K slots of one factor, S slots of all factors, C code
columns of all factors, O offsets.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.query_encoder.combiner import Combiner, Fusion
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.factors import Factor, factor_codes

_HIDDEN = 128
_COMBINATION_HIDDEN = 256
_READ_HIDDEN = 128
_GATE_HIDDEN = 16
_TEXT_DROPOUT = 0.2
_MAX_MAPPED = 32
"""Factors of more slots have no map operation: its matrix would have more entries than there are texts to learn it from."""


class Composition(NamedTuple):
    """A composed query with what it was made from."""

    query_NV: Tensor
    source_NS: Tensor
    """Distribution over the slots of each factor, read from the clip, factors side by side."""
    target_NS: Tensor
    """The same after the edit."""
    asked_NF: Tensor
    """How sure the text asks for something of a factor: 0 = it is left alone."""


class ReadFactor(nn.Module):
    """Clip vectors to a distribution over the slots of one factor; numbers are read as one place on their line."""

    line_K: Tensor

    def __init__(self, factor: Factor, width: int) -> None:
        super().__init__()
        self.num_line = len(factor.present) if factor.is_ordered else 0
        self.num_free = len(factor.values) - self.num_line
        """Slots with a logit of their own: all of an unordered factor, ABSENT of an ordered one."""
        num_outputs = self.num_free + (1 if self.num_line else 0)
        self.hidden = nn.Linear(width, _READ_HIDDEN)
        self.out = nn.Linear(_READ_HIDDEN, num_outputs)
        self.linear = nn.Linear(width, num_outputs)
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.register_buffer(
            "line_K", torch.arange(self.num_line, dtype=torch.float32), persistent=False
        )

    def forward(self, video_NV: Tensor) -> Tensor:
        """Logarithms of the distribution [N, K]."""
        # Unit vectors have entries of about 1 / sqrt(V).
        scaled_NV = video_NV * video_NV.shape[-1] ** 0.5
        outputs = self.linear(scaled_NV) + self.out(F.relu(self.hidden(scaled_NV)))
        if not self.num_line:
            return F.log_softmax(outputs, dim=-1)
        place_N1 = self.num_line / 2 + outputs[:, :1]
        line_NK = -((self.line_K.to(outputs.dtype) - place_N1) ** 2) * self.log_sharpness.exp()
        return F.log_softmax(torch.cat([line_NK, outputs[:, 1:]], dim=-1), dim=-1)


class EditFactor(nn.Module):
    """Text features to the matrix [N, K, K] that turns a distribution over one factor's slots into the edited one."""

    gate: nn.Linear
    set: nn.Linear
    shift: nn.Linear
    map: nn.Linear
    keep_KK: Tensor
    moves_OKK: Tensor

    def __init__(self, factor: Factor, width: int) -> None:
        super().__init__()
        num_slots = len(factor.values)
        self.num_slots = num_slots
        self.num_line = len(factor.present) if factor.is_ordered else 0
        self.has_map = not factor.is_ordered and num_slots <= _MAX_MAPPED
        self.gate = nn.Linear(width, 2 + bool(self.num_line) + self.has_map)
        self.set = nn.Linear(width, num_slots)
        if self.num_line:
            self.shift = nn.Linear(width, 2 * self.num_line - 1)
            self.register_buffer("moves_OKK", _moves(factor), persistent=False)
        if self.has_map:
            self.map = nn.Linear(width, num_slots * num_slots)
        self.register_buffer("keep_KK", torch.eye(num_slots), persistent=False)

    def forward(self, text_NH: Tensor) -> Tensor:
        num_slots = self.num_slots
        share = F.softmax(self.gate(text_NH), dim=-1)[:, :, None, None]
        set_NKK = F.softmax(self.set(text_NH), dim=-1)[:, None, :].expand(-1, num_slots, -1)
        matrix_NKK = share[:, 0] * self.keep_KK.to(share.dtype) + share[:, 1] * set_NKK
        if self.num_line:
            offsets_NO = F.softmax(self.shift(text_NH), dim=-1)
            moves_OM = self.moves_OKK.to(share.dtype).flatten(1)
            moved_NKK = (offsets_NO @ moves_OM).reshape(-1, num_slots, num_slots)
            matrix_NKK = matrix_NKK + share[:, 2] * moved_NKK
        if self.has_map:
            rows_NKK = self.map(text_NH).reshape(-1, num_slots, num_slots)
            matrix_NKK = matrix_NKK + share[:, 2] * F.softmax(rows_NKK, dim=-1)
        return matrix_NKK


def _moves(factor: Factor) -> Tensor:
    """Per offset the matrix that moves every number by it, at most to the ends of the line; ABSENT stays."""
    num_line, num_slots = len(factor.present), len(factor.values)
    moves = torch.zeros(2 * num_line - 1, num_slots, num_slots)
    for place in range(2 * num_line - 1):
        for slot in range(num_line):
            moves[place, slot, min(max(slot + place - (num_line - 1), 0), num_line - 1)] = 1
        moves[place, num_line:, num_line:] = torch.eye(num_slots - num_line)
    return moves


class FactoredFusion(Fusion):
    """Factors beside a gated Combiner; without factors the Combiner alone."""

    codes_SC: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        factors, width = config.factors, config.video_dim
        self.whole_dim = config.text_dim - config.read_dim
        self.combiner = Combiner(
            replace(
                config,
                kind="combiner",
                inputs="both",
                text_dim=self.whole_dim,
                factors=(),
                read_dim=0,
            )
        )
        self.sizes = [len(factor.values) for factor in factors]
        if not factors:
            return
        self.read = nn.ModuleList([ReadFactor(factor, width) for factor in factors])
        width_in = self.whole_dim + config.read_dim // len(factors)
        self.trunk_in = nn.ModuleList([nn.Linear(width_in, _HIDDEN) for _ in factors])
        self.trunk_out = nn.ModuleList([nn.Linear(_HIDDEN, _HIDDEN) for _ in factors])
        self.edit = nn.ModuleList([EditFactor(factor, _HIDDEN) for factor in factors])
        codes = [torch.from_numpy(factor_codes(factor)) for factor in factors]
        self.register_buffer("codes_SC", torch.block_diag(*codes), persistent=False)
        num_columns = self.codes_SC.shape[1]
        self.decoder = nn.Linear(num_columns, width)
        self.combination_in = nn.Linear(num_columns, _COMBINATION_HIDDEN)
        self.combination_out = nn.Linear(_COMBINATION_HIDDEN, width)
        nn.init.zeros_(self.combination_out.weight)
        nn.init.zeros_(self.combination_out.bias)
        self.gate_in = nn.Linear(len(factors) + 1, _GATE_HIDDEN)
        self.gate_out = nn.Linear(_GATE_HIDDEN, 1)

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Both as they are: each part has its own first layer."""
        return video_NV, text_ND

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """The query as `compose` gives it; the text is as wide as it came."""
        return self.compose(video_NV, text_NV).query_NV

    def compose(
        self, video_NV: Tensor, text_ND: Tensor, given_NS: Tensor | None = None
    ) -> Composition:
        """The query and its factors. A factor whose slots of `given_NS` hold anything has that for its reading of the clip."""
        video_NV, text_ND = self.masked(video_NV, text_ND)
        combined_NV = self.combine(video_NV, text_ND)
        if not self.sizes:
            empty = video_NV[:, :0]
            return Composition(combined_NV, empty, empty, empty)
        sources = [log_NK.exp() for log_NK in self.read_clips(video_NV)]
        trust_N1 = torch.ones_like(video_NV[:, :1])
        if given_NS is not None:
            parts = given_NS.split(self.sizes, dim=-1)
            is_given = [(part.sum(dim=-1, keepdim=True) > 0).to(part.dtype) for part in parts]
            sources = [
                has * part + (1 - has) * read
                for has, part, read in zip(is_given, parts, sources, strict=True)
            ]
            # The Combiner has its own reading of the clip, which nobody can correct.
            trust_N1 = 1 - torch.cat(is_given, dim=-1).amax(dim=-1, keepdim=True)
        matrices = self.edits(text_ND)
        targets = apply_edits(sources, matrices)
        decoded_NV = self.decode(targets)
        gate_N1 = self.gate(decoded_NV, combined_NV, targets) * trust_N1
        return Composition(
            F.normalize(gate_N1 * combined_NV + (1 - gate_N1) * decoded_NV, dim=-1),
            torch.cat(sources, dim=-1),
            torch.cat(targets, dim=-1),
            torch.stack([_asks(matrix) for matrix in matrices], dim=-1),
        )

    def combine(self, video_NV: Tensor, text_ND: Tensor) -> Tensor:
        """The Combiner's unit query vectors."""
        return self.combiner(video_NV, text_ND[:, : self.whole_dim])

    def read_clips(self, video_NV: Tensor) -> list[Tensor]:
        """Logarithms of the distributions read from clips, one [N, K] per factor."""
        return [read(video_NV) for read in self.read]

    def edits(self, text_ND: Tensor) -> list[Tensor]:
        """What the texts do to each factor: matrices [N, K, K] whose rows sum to 1."""
        whole_ND, reads_NR = text_ND[:, : self.whole_dim], text_ND[:, self.whole_dim :]
        # Unit vectors have entries of about 1 / sqrt(D).
        whole_ND = whole_ND * self.whole_dim**0.5
        matrices = []
        for number, edit in enumerate(self.edit):
            share = reads_NR.shape[1] // len(self.sizes)
            read_NR = reads_NR[:, number * share : (number + 1) * share]
            hidden_NH = F.relu(self.trunk_in[number](torch.cat([whole_ND, read_NR], dim=-1)))
            hidden_NH = F.dropout(hidden_NH, _TEXT_DROPOUT, training=self.training)
            matrices.append(edit(hidden_NH + F.relu(self.trunk_out[number](hidden_NH))))
        return matrices

    def decode(self, targets: list[Tensor]) -> Tensor:
        """Distributions over the slots of all factors -> unit clip vectors.

        A sum over factors, and what combinations add to it. The sum reaches combinations and counts that training lacked; the
        rest starts at zero and serves an encoder whose classes are no sums.
        """
        codes_NC = torch.cat(targets, dim=-1) @ self.codes_SC.to(targets[0].dtype)
        combined_NV = self.combination_out(F.relu(self.combination_in(codes_NC)))
        return F.normalize(self.decoder(codes_NC) + combined_NV, dim=-1)

    def gate(self, decoded_NV: Tensor, combined_NV: Tensor, targets: list[Tensor]) -> Tensor:
        """The Combiner's share [N, 1], from how sure the factors are and whether both agree."""
        signs = [(decoded_NV * combined_NV).sum(dim=-1, keepdim=True)]
        signs += [target.amax(dim=-1, keepdim=True) for target in targets]
        return torch.sigmoid(self.gate_out(F.relu(self.gate_in(torch.cat(signs, dim=-1)))))


def apply_edits(sources: list[Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """The distributions after the edits."""
    return [
        (source.unsqueeze(1) @ matrix).squeeze(1)
        for source, matrix in zip(sources, matrices, strict=True)
    ]


def _asks(matrix_NKK: Tensor) -> Tensor:
    """The largest share that any value loses: 0 where the factor is left alone."""
    return (1 - torch.diagonal(matrix_NKK, dim1=-2, dim2=-1)).amax(dim=-1)
