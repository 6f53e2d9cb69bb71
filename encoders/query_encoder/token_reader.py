"""Reads the tokens of a text once per factor: a pooled vector alone mixes what a sentence asks of one attribute with the rest of it.

N texts, L tokens, T tokens of all texts, E width of token states, K width inside, R reads, W width of one read.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

READS_PER_FACTOR = 2
READ_WIDTH = 64
_WIDTH = 128
_TOKEN_DROPOUT = 0.1
_HIDDEN_IN_SOFTMAX = -1e4


class TokenReader(nn.Module):
    """Attention of learned queries over token states, each seen with its two neighbours ("no twists", "one more twist")."""

    def __init__(self, state_width: int, num_reads: int) -> None:
        super().__init__()
        self.state_width, self.num_reads = state_width, num_reads
        self.states = nn.Linear(state_width, _WIDTH)
        self.neighbours = nn.Conv1d(_WIDTH, _WIDTH, 3, padding=1)
        self.queries = nn.Linear(_WIDTH, num_reads)
        self.values = nn.Linear(_WIDTH, READ_WIDTH)

    @property
    def width(self) -> int:
        """Length of what is read of one text: R * W."""
        return self.num_reads * READ_WIDTH

    def forward(self, states_NLE: Tensor, mask_NL: Tensor) -> Tensor:
        """States and mask (1 = a token) to [N, R * W], the reads side by side."""
        return self._read(F.relu(self.states(states_NLE)), mask_NL)

    def read_packed(self, states_TE: Tensor, lengths_N: Tensor) -> Tensor:
        """The same of texts that stand one behind the other: what is padded is only as wide as the reader."""
        states_TK = F.relu(self.states(states_TE))
        places_L = torch.arange(int(lengths_N.max()), device=lengths_N.device)
        is_token_NL = places_L < lengths_N[:, None]
        # One scatter: the gradient of many narrow slices would be as many full copies.
        places_T = is_token_NL.flatten().nonzero()[:, 0]
        padded = states_TK.new_zeros(is_token_NL.numel(), states_TK.shape[1])
        padded = padded.index_copy(0, places_T, states_TK)
        return self._read(padded.unflatten(0, is_token_NL.shape), is_token_NL)

    def _read(self, states_NLK: Tensor, mask_NL: Tensor) -> Tensor:
        is_token_NL = mask_NL.bool()
        if self.training:
            is_kept_NL = torch.rand(mask_NL.shape, device=mask_NL.device) > _TOKEN_DROPOUT
            is_kept_NL[:, 0] = True
            is_token_NL = is_token_NL & is_kept_NL
        shown_NLK = states_NLK * is_token_NL.unsqueeze(-1).to(states_NLK.dtype)
        near_NLK = self.neighbours(shown_NLK.transpose(1, 2)).transpose(1, 2)
        states_NLK = F.dropout(states_NLK + F.relu(near_NLK), 0.1, training=self.training)
        scores_NLR = self.queries(states_NLK)
        scores_NLR = scores_NLR.masked_fill(~is_token_NL.unsqueeze(-1), _HIDDEN_IN_SOFTMAX)
        reads_NRW = F.softmax(scores_NLR, dim=1).transpose(1, 2) @ self.values(states_NLK)
        return reads_NRW.flatten(1)
