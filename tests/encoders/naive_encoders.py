"""Encoders in NumPy, as in the papers: an item at a time, of the clips that are there, in loops."""

from typing import Any

import numpy as np

Parameters = dict[str, Any]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.sum(x * x))


def dense(layer: Parameters, x: np.ndarray) -> np.ndarray:
    return np.stack([token @ layer["kernel"] + layer["bias"] for token in x])


def layer_norm(layer: Parameters, x: np.ndarray) -> np.ndarray:
    rows = []
    for token in x:
        centred = token - token.mean()
        normal = centred / np.sqrt((centred**2).mean() + 1e-6)
        rows.append(normal * layer["scale"] + layer["bias"])
    return np.stack(rows)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(scores: list[np.ndarray]) -> list[np.ndarray]:
    exponentials = [np.exp(score) for score in scores]
    return [exponential / sum(exponentials) for exponential in exponentials]


def weighted_sum(scores: list[np.ndarray], vectors: list[np.ndarray]) -> np.ndarray:
    weights = softmax(scores)
    return sum(weight * vector for weight, vector in zip(weights, vectors, strict=True))


def attention(layers: Parameters, x: np.ndarray, heads: int) -> np.ndarray:
    width = x.shape[1]
    size = width // heads
    parts = dense(layers["queries_keys_values"], x)
    queries, keys, values = parts[:, :width], parts[:, width : 2 * width], parts[:, 2 * width :]
    found = []
    for query in queries:
        of_heads = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = [query[own] @ key[own] / np.sqrt(size) for key in keys]
            of_heads.append(weighted_sum(scores, [value[own] for value in values]))
        found.append(np.concatenate(of_heads))
    return dense(layers["out"], np.stack(found))


def sinusoid(place: int, width: int) -> np.ndarray:
    angles = [place / 10000 ** (2 * i / width) for i in range(width // 2)]
    return np.array([np.sin(a) for a in angles] + [np.cos(a) for a in angles])


def pooled(params: Parameters, kind: str, x: np.ndarray) -> np.ndarray:
    if kind == "mean":
        return sum(x) / len(x)
    query = params["pooling"]["attention"]["query"]
    return weighted_sum([query @ token for token in x], list(x))


def transformer(
    params: Parameters, clips: np.ndarray, places: list[int], text: np.ndarray, settings: Any
) -> np.ndarray:
    """(N, P) clips at their places, (L, E) text that is there -> (D,), of unit length."""
    x = dense(params["project"], clips)
    if settings.positions == "learned":
        x = x + np.stack([params["positions"]["table"][place] for place in places])
    elif settings.positions == "sinusoidal":
        x = x + np.stack([sinusoid(place, x.shape[1]) for place in places])
    count = len(x)
    if len(text):
        words = dense(params["text"]["project"], layer_norm(params["text"]["norm"], text))
        x = np.concatenate([x, np.stack([word + params["text_type"] for word in words])])
    if settings.pooling == "cls":
        x = np.concatenate([x, np.stack([params["class_token"]["token"]])])
    for number in range(settings.layers):
        block = params[f"block_{number}"]
        x = x + attention(block["attention"], layer_norm(block["norm_0"], x), settings.heads)
        hidden = gelu(dense(block["mlp_0"], layer_norm(block["norm_1"], x)))
        x = x + dense(block["mlp_1"], hidden)
    x = layer_norm(params["norm"], x)
    vector = x[-1] if settings.pooling == "cls" else pooled(params, settings.pooling, x[:count])
    return unit(vector @ params["out"]["kernel"] + params["out"]["bias"])


def gated_conv(
    params: Parameters, clips: np.ndarray, mask: np.ndarray, settings: Any
) -> np.ndarray:
    """(N, P), (N,) -> (D,) features."""
    x = dense(params["project"], clips)
    width, reach = x.shape[1], settings.kernel // 2
    for number in range(settings.layers):
        block = params[f"block_{number}"]
        normal = layer_norm(block["norm"], x)
        seen = []
        for place in range(len(x)):
            total = np.zeros(width)
            for shift in range(-reach, reach + 1):
                if 0 <= place + shift < len(x) and mask[place + shift]:
                    total = total + block["kernel"][shift + reach] * normal[place + shift]
            seen.append(total)
        mixed = dense(block["mix"], np.stack(seen))
        x = x + mixed[:, :width] / (1 + np.exp(-mixed[:, width:]))
    vector = pooled(params, settings.pooling, layer_norm(params["norm"], x)[np.flatnonzero(mask)])
    return vector @ params["out"]["kernel"] + params["out"]["bias"]


def gated_text(params: Parameters, features: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(D,) features, (L, M) vectors of the tokens that are there -> (D,) features."""
    (text,) = dense(params["text"]["out"], gelu(sum(vectors) / len(vectors))[None])
    (logits,) = dense(params["gate"], np.concatenate([features, text])[None])
    return features + text / (1 + np.exp(-logits))
