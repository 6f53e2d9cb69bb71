"""An action head whose class weights are sums over the attributes of the label, so that clip vectors keep the same structure.

A plain head pulls the classes to the corners of a simplex, where "one twist more" has no direction, and a class that it never saw
has no place. N clips, D width of the features, K labels, F factors, C code columns of one factor.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.query_encoder.factors import factor_codes, find_factors
from training.annotations.labels.names import label_attributes


class FactorHead(nn.Module):
    """Cosines between features and class directions, divided by the temperature."""

    codes_KC: Tensor

    def __init__(self, labels: Sequence[str], width: int, *, temperature: float) -> None:
        super().__init__()
        attributes = [label_attributes(label) for label in labels]
        factors = find_factors(attributes)
        codes = []
        for factor in factors:
            slots = [factor.slot(values.get(factor.name)) for values in attributes]
            codes.append(torch.from_numpy(factor_codes(factor)[slots]))
        codes_KC = torch.cat(codes, dim=1) if codes else torch.zeros(len(labels), 0)
        _require_distinct(labels, codes_KC)
        self.register_buffer("codes_KC", codes_KC, persistent=False)
        self.weight = nn.Parameter(torch.randn(codes_KC.shape[1], width))
        self.temperature = temperature

    def directions(self) -> Tensor:
        """Unit class directions [K, D]."""
        return F.normalize(self.codes_KC @ F.normalize(self.weight, dim=-1), dim=-1)

    def forward(self, features_ND: Tensor) -> Tensor:
        """Logits [N, K]."""
        return F.normalize(features_ND, dim=-1) @ self.directions().T / self.temperature

    def as_linear(self) -> nn.Linear:
        """A plain head of the same directions for the bundle: it ranks the labels alike, its logits are not scaled alike."""
        num_labels, width = self.codes_KC.shape[0], self.weight.shape[1]
        head = nn.Linear(width, num_labels)
        with torch.no_grad():
            head.weight.copy_(self.directions() / self.temperature / width**0.5)
            head.bias.zero_()
        return head


def _require_distinct(labels: Sequence[str], codes_KC: Tensor) -> None:
    first: dict[tuple[float, ...], str] = {}
    for label, code in zip(labels, codes_KC.tolist(), strict=True):
        other = first.setdefault(tuple(code), label)
        if other != label:
            raise ValueError(
                f"labels {other!r} and {label!r} have the same attributes, or none; head='factors' cannot tell them apart, use head='labels'"
            )
