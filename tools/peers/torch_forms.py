"""The losses in torch, eager: those of open_clip and pytorch-metric-learning, and our own."""

import importlib
from collections.abc import Callable
from typing import Any

import torch

from tools.paired import Prepared
from tools.peers import first_step
from tools.peers.problem import (
    BIAS,
    MARGIN,
    SCALE,
    TEMPERATURE,
    TOP_K,
    WEIGHTS,
    Batch,
    Problem,
    random_batch,
)

Loss = Callable[[Batch], Any]


def open_clip_infonce() -> Loss:
    """open_clip's `ClipLoss`."""
    loss, scale = _open_clip().ClipLoss(), torch.tensor(1 / TEMPERATURE)
    return lambda batch: loss(batch.video, batch.music, scale)


def open_clip_siglip() -> Loss:
    """open_clip's `SigLipLoss`."""
    loss, scale, bias = _open_clip().SigLipLoss(), torch.tensor(SCALE), torch.tensor(BIAS)
    return lambda batch: loss(batch.video, batch.music, scale, bias)


def pml_supcon() -> Loss:
    """pytorch-metric-learning's `SupConLoss`, the other modality as references."""
    return _both_directions(_metric_learning("losses").SupConLoss(TEMPERATURE))


def pml_ntxent() -> Loss:
    """pytorch-metric-learning's `NTXentLoss`, the other modality as references."""
    return _both_directions(_metric_learning("losses").NTXentLoss(TEMPERATURE))


def pml_triplet() -> Loss:
    """pytorch-metric-learning's `TripletMarginLoss` of the triplets that `BatchHardMiner` finds."""
    cosine = _metric_learning("distances").CosineSimilarity()
    miner = _metric_learning("miners").BatchHardMiner(distance=cosine)
    return _both_directions(
        _metric_learning("losses").TripletMarginLoss(MARGIN, distance=cosine), miner
    )


def vmnet() -> Loss:
    """The weighted sum of VM-NET's four terms, as published."""
    return lambda batch: (
        WEIGHTS["m2v"] * _ranking(batch.music, batch.video)
        + WEIGHTS["v2m"] * _ranking(batch.video, batch.music)
        + WEIGHTS["music"] * _adjacent(batch.music_inputs, batch.music)
        + WEIGHTS["video"] * _adjacent(batch.video_inputs, batch.video)
    )


def structure() -> Loss:
    """All triplets of videos, from ranks by argsort."""

    def loss(batch: Batch) -> Any:
        items, after = len(batch.video), batch.video @ batch.video.T
        with torch.no_grad():
            before = batch.video_inputs @ batch.video_inputs.T
            flips = _sorted_ranks(after) - _sorted_ranks(before)
        return 2 * (after * flips).sum() / (items * (items - 1) * (items - 2))

    return loss


def _open_clip() -> Any:
    return importlib.import_module("open_clip.loss")


def _metric_learning(part: str) -> Any:
    return importlib.import_module(f"pytorch_metric_learning.{part}")


def _both_directions(loss: Any, miner: Any = None) -> Loss:
    """The mean of two directions of a loss that compares items with references."""

    def direction(anchors: Any, gallery: Any, track: Any) -> Any:
        of_gallery = track.clone()  # the very same tensor would say: an item is not its own partner
        mined = None if miner is None else miner(anchors, track, gallery, of_gallery)
        return loss(anchors, track, mined, gallery, of_gallery)

    def both(batch: Batch) -> Any:
        forth = direction(batch.video, batch.music, batch.track)
        return 0.5 * (forth + direction(batch.music, batch.video, batch.track))

    return both


def _ranking(anchors: Any, gallery: Any) -> Any:
    similarity = anchors @ gallery.T
    violation = torch.relu(MARGIN - similarity.diagonal()[:, None] + similarity)
    own = torch.eye(len(anchors), dtype=torch.bool)
    top_k = min(TOP_K, len(anchors))
    return violation.masked_fill(own, 0).topk(top_k, sorted=False).values.mean()


def _adjacent(inputs: Any, embeddings: Any) -> Any:
    before = torch.nn.functional.normalize(inputs[:TOP_K])
    before, after = before @ before.T, embeddings[:TOP_K] @ embeddings[:TOP_K].T
    gaps, gaps_before = after[:, :-1] - after[:, 1:], before[:, :-1] - before[:, 1:]
    return ((gaps.sign() - gaps_before.sign()).detach() * gaps).mean()


def _sorted_ranks(values: Any) -> Any:
    """Of each entry among its row's, the own left out: #smaller − #larger, (N,N) -> (N,N) int."""
    items = len(values)
    own = torch.eye(items, dtype=torch.bool)
    places = torch.arange(items).expand(items, items)
    values = values.masked_fill(own, -torch.inf)
    order = values.argsort(dim=1)
    ascending = values.gather(1, order)
    differs = ascending[:, 1:] != ascending[:, :-1]
    starts = torch.nn.functional.pad(differs, (1, 0))
    ends = torch.nn.functional.pad(differs, (0, 1))
    first = torch.where(starts, places, 0).cummax(1).values
    last = torch.where(ends, places, items - 1).flip(1).cummin(1).values.flip(1)
    signed = torch.empty_like(order).scatter_(1, order, first + last - items)
    return signed.masked_fill(own, 0)


FORMS: dict[str, Callable[[], Loss]] = {
    "open_clip_infonce": open_clip_infonce,
    "open_clip_siglip": open_clip_siglip,
    "pml_supcon": pml_supcon,
    "pml_ntxent": pml_ntxent,
    "pml_triplet": pml_triplet,
    "vmnet": vmnet,
    "structure": structure,
}


def prepare(form: str, problem: Problem) -> Prepared:
    """The form and its gradient by autograd, at whichever embeddings it has one."""
    loss = FORMS[form]()

    def step_of(problem: Problem) -> first_step.Step:
        batch = Batch(*map(torch.from_numpy, random_batch(problem)))

        def step() -> tuple[Any, dict[str, Any]]:
            video, music = (x.detach().requires_grad_() for x in (batch.video, batch.music))
            value = loss(batch._replace(video=video, music=music))
            value.backward()
            found = {"video": video.grad, "music": music.grad}
            return value.detach(), {side: x for side, x in found.items() if x is not None}

        return step

    return first_step.prepared(step_of, problem)
