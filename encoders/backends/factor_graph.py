"""The graph of a fusion with factors: query vectors with what was read of the clip and what the text asks for.

`factors.onnx`: clip_vector [N, D], text_vector [N, E], given_factors [N, S] -> query_vector [N, D], source_factors [N, S],
target_factors [N, S], asked_factors [N, F]. It has the weights of `fusion.onnx`, and is opened by searches that explain themselves.
"""

import numpy as np
import onnxruntime

from encoders.query_encoder.composition import FactorComposition

FACTOR_INPUTS = ("clip_vector", "text_vector", "given_factors")
FACTOR_OUTPUTS = ("query_vector", "source_factors", "target_factors", "asked_factors")


def run_factors(
    session: onnxruntime.InferenceSession,
    clip_vectors_ND: np.ndarray,
    text_vectors_NE: np.ndarray,
    given_NS: np.ndarray,
) -> FactorComposition:
    """The graph's outputs."""
    parts = (clip_vectors_ND, text_vectors_NE, given_NS)
    inputs = {
        name: np.ascontiguousarray(part, np.float32)
        for name, part in zip(FACTOR_INPUTS, parts, strict=True)
    }
    return FactorComposition(*map(np.asarray, session.run(list(FACTOR_OUTPUTS), inputs)))
