"""TF-CoVR's released behaviour restated in NumPy from its description, number by number, as the reference of `release`.

It shares no code with what it measures. Losses take complex similarities too: a step along the imaginary axis gives a gradient to
the last digit. N queries and their targets; row i of the similarities is query i.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

RANKS = (5, 10, 25, 50)
_SPOKEN = {
    0.5: "half", 1.0: "one", 1.5: "one and a half", 2.0: "two", 2.5: "two and a half", 3.0: "three", 3.5: "three and a half",
    4.0: "four", 4.5: "four and a half", 5.0: "five", 5.5: "five and a half", 6.0: "six", 6.5: "six and a half", 7.0: "seven",
}  # fmt: skip
Loss = Callable[[np.ndarray], complex]


def hn_nce(s_NN: np.ndarray, alpha: float, beta: float, *, as_released: bool) -> complex:
    """Hard-negative NCE of similarities over the temperature; `as_released`: the divisor of weight (i, j) is row j's, not row i's."""
    n = len(s_NN)
    total = 0j
    for i in range(n):
        rows, columns = alpha * np.exp(s_NN[i, i]), alpha * np.exp(s_NN[i, i])
        for j in range(n):
            if j != i:
                row = j if as_released else i
                divisor = sum(np.exp(beta * s_NN[row, k]) for k in range(n) if k != row)
                rows += (n - 1) * np.exp(beta * s_NN[i, j]) / divisor * np.exp(s_NN[i, j])
                divisor = sum(np.exp(beta * s_NN[k, i]) for k in range(n) if k != i)
                columns += (n - 1) * np.exp(beta * s_NN[j, i]) / divisor * np.exp(s_NN[j, i])
        total += np.log(rows) - s_NN[i, i] + np.log(columns) - s_NN[i, i]
    return total / n


def cross_entropy(s_NN: np.ndarray) -> complex:
    """Mean of both directions."""
    n = len(s_NN)
    return (
        sum(
            np.log(np.exp(s_NN[i]).sum()) + np.log(np.exp(s_NN[:, i]).sum()) - 2 * s_NN[i, i]
            for i in range(n)
        )
        / n
        / 2
    )


def false_negative(s_NN: np.ndarray, is_false_NN: np.ndarray, beta: float, mode: str) -> complex:
    """Elimination or attraction, weights of all negatives, 1e-8 added to every denominator."""
    n = len(s_NN)
    total = 0j
    for direction in (s_NN, s_NN.T):
        for i in range(n):
            others = [j for j in range(n) if j != i]
            divisor = sum(np.exp(beta * direction[i, j]) for j in others)
            denominator = 1e-8 + sum(
                (n - 1) * np.exp(beta * direction[i, j]) / divisor * np.exp(direction[i, j])
                for j in others
                if not is_false_NN[i, j]
            )
            positives = [i, *(j for j in others if is_false_NN[i, j] and mode == "attraction")]
            terms = [np.log(np.exp(direction[i, j]) / denominator) for j in positives]
            total -= sum(terms) / len(terms)
    return total / (2 * n)


def gradient(loss: Loss, s_NN: np.ndarray) -> np.ndarray:
    """The derivative by every similarity, by a complex step."""
    step = 1e-30
    result_NN = np.empty(s_NN.shape)
    for place in np.ndindex(*s_NN.shape):
        moved_NN = s_NN.astype(complex)
        moved_NN[place] += 1j * step
        result_NN[place] = loss(moved_NN).imag / step
    return result_NN


def evaluate(
    rows: Sequence[Mapping[str, object]], queries_ND: np.ndarray, vectors: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """mAP@k and Recall@k of rows with `query_video`, `target_video` and `target_videos_ids`, before they are rounded."""
    names = [str(row["target_video"]) for row in rows]
    sums = {f"{name}@{rank}": 0.0 for name in ("map", "recall") for rank in RANKS}
    for row, query_D in zip(rows, queries_ND, strict=True):
        query = query_D / math.sqrt((query_D**2).sum())
        scores = []
        for name in names:
            target = vectors[name] / math.sqrt((vectors[name] ** 2).sum())
            scores.append(float((query * target).sum()) - 100 * (name == row["query_video"]))
        ranked = [names[place] for place in np.argsort(np.array(scores))[::-1]][:50]
        valid = list(row["target_videos_ids"])  # type: ignore[call-overload]
        for rank in RANKS:
            num_hits, precision_sum = 0, 0.0
            for place, name in enumerate(ranked[:rank], start=1):
                if name in valid:
                    num_hits += 1
                    precision_sum += num_hits / place
            sums[f"map@{rank}"] += precision_sum / min(len(valid), rank)
            sums[f"recall@{rank}"] += sum(name == row["target_video"] for name in ranked[:rank])
    return {name: 100 * total / len(rows) for name, total in sums.items()}


def combine(
    clip_D: np.ndarray, text_D: np.ndarray, weights: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The Combiner without dropout, one query at a time; `weights` under our names."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return np.array(
            [
                float((row * x).sum()) + bias
                for row, bias in zip(
                    weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True
                )
            ]
        )

    text = linear("text_in", text_D)
    text = text / math.sqrt((text**2).sum())
    both = np.concatenate(
        [
            np.maximum(linear("text_projection", text), 0),
            np.maximum(linear("video_projection", clip_D), 0),
        ]
    )
    residual = linear("out", np.maximum(linear("combine", both), 0))
    gate = 1 / (1 + math.exp(-linear("gate_out", np.maximum(linear("gate_hidden", both), 0))[0]))
    query = residual + gate * text + (1 - gate) * clip_D
    return query / math.sqrt((query**2).sum())


def normalize(text: str, max_words: int = 30) -> str:
    """Numbers to words, lower case, marks to spaces, the first words; character by character."""
    lower = _speak(text).lower()
    spaced = "".join(" " if char in '!"()*#:;~' else char for char in lower)
    out: list[str] = []
    start = 0
    while start < len(spaced):
        end = start
        while end < len(spaced) and spaced[end].isspace():
            end += 1
        out.append(" " if end - start >= 2 else spaced[start])
        start = max(end, start + 1)
    whole = "".join(out)
    while whole.endswith("\n"):
        whole = whole[:-1]
    return " ".join(whole.strip(" ").split(" ")[:max_words])


def _speak(text: str) -> str:
    """A number is digits, perhaps with a fraction, that no letter, digit or underscore touches."""

    def is_free(place: int) -> bool:
        return not 0 <= place < len(text) or not (text[place].isalnum() or text[place] == "_")

    def digits_from(place: int) -> int:
        while place < len(text) and text[place].isdecimal():
            place += 1
        return place

    out: list[str] = []
    start = 0
    while start < len(text):
        end = digits_from(start) if is_free(start - 1) else start
        fraction_end = digits_from(end + 1) if text[end : end + 1] == "." else end
        if end > start and fraction_end > end + 1 and is_free(fraction_end):
            end = fraction_end
        elif not is_free(end):
            end = start
        number = text[start:end]
        out.append(_SPOKEN.get(float(number), number) if number else text[start])
        start = max(end, start + 1)
    return "".join(out)
