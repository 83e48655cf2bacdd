"""What is behind a run's table: suspected false negatives, hubs, the geometry of the embedding."""

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vmr import embeddings
from vmr.data.pipeline import train_batches
from vmr.embeddings import Embeddings
from vmr.encoders.encoder import masked_mean
from vmr.errors import UserError
from vmr.evaluation.alike import DEVIATIONS, Rule, measured_rule
from vmr.evaluation.batch_negatives import batch_negatives
from vmr.evaluation.false_negatives import Items, false_negatives
from vmr.evaluation.geometry import geometry
from vmr.evaluation.hubness import hubness
from vmr.training.inference import TrainedRun, restore_run
from vmr.training.inputs import FIELDS, Standardization, model_inputs
from vmr.training.reading import evaluation_batches, on_device
from vmr.training.workdir import saved_config

Batch = Mapping[str, np.ndarray]

_BATCH = 256
# Training pairs that the rule, and the share of false negatives a batch, are estimated on.
_SAMPLE = 4096


def diagnose_run(
    workdir: pathlib.Path,
    split: str,
    data_dir: str | None = None,
    *,
    deviations: float = DEVIATIONS,
    examples: int = 10,
    seed: int = 0,
) -> dict[str, Any]:
    """The diagnosis of a run's best checkpoint on a split, as `results/diagnosis_{split}.json`.

    Keys: `split`, `step`, `videos`, `tracks`, `seed`, `geometry`, `hubness`, `false_negatives`,
    `batch`, see the functions of these names in `vmr.evaluation`, and `rule`: `deviations`, and of
    `video` and `music` the `median`, the `deviation` and the `threshold`, all cosines of inputs.
    Inputs are what the intra-modal losses compare: each item's standardised features, the mean over
    its clips, without text. The rule is measured on training pairs, whatever the split.

    Args:
      workdir: the run's folder.
      split: of the run's dataset.
      data_dir: where the dataset lies now; None where it lay in training.
      deviations: that a similarity of inputs stands above the usual where items are alike.
      examples: suspects to name, at most.
      seed: of what is drawn: training pairs, and rows to measure uniformity on.

    Raises:
      UserError: no finished validation in the folder, no such split, or a run of one modality.
    """
    pairing = saved_config(workdir).pairing
    if pairing != "video_music":
        raise UserError(
            f"{workdir} compares {pairing} with itself; a diagnosis is of video and music"
        )
    run = restore_run(workdir, data_dir)
    run.dataset.examples(split)  # raises where it is missing
    sample = _training_sample(run, seed)
    drawn = (sample["video"], sample["music"], sample["track"])
    rule = measured_rule(*drawn, deviations=deviations, seed=seed)
    embedded = embeddings.collect(run.embed(split), split, {})
    suspects = false_negatives(_items(run, embedded), rule, examples=examples)
    return {
        "split": split,
        "step": run.step,
        "videos": len(embedded.video_ids),
        "tracks": len(embedded.music_ids),
        "seed": seed,
        "geometry": geometry(
            embedded.video_emb, embedded.music_emb, embedded.gt_music_index, seed=seed
        ),
        "hubness": hubness(embedded.video_emb, embedded.music_emb),
        "rule": _told(rule),
        "false_negatives": suspects
        | {"examples": [_named(embedded, one) for one in suspects["examples"]]},
        "batch": batch_negatives(
            *drawn, rule, int(run.config.batch_size), group=sample.get("group")
        ),
    }


def _items(run: TrainedRun, embedded: Embeddings) -> Items:
    batches = evaluation_batches(run.dataset, embedded.split, _BATCH, run.view)
    # Inputs are collected as embeddings are, each track once and in the same order.
    as_embeddings = (
        {**batch, "video_emb": batch["video"], "music_emb": batch["music"]}
        for batch in _with_inputs(run, batches)
    )
    before = embeddings.collect(as_embeddings, embedded.split, {})
    return Items(
        video_emb=embedded.video_emb,
        music_emb=embedded.music_emb,
        video_inputs=before.video_emb,
        music_inputs=before.music_emb,
        gt_music_index=embedded.gt_music_index,
        video_group=embedded.video_group,
        music_group=embedded.music_group,
    )


def _training_sample(run: TrainedRun, seed: int) -> dict[str, np.ndarray]:
    """Pairs as training draws them: `video` (n, P), `music` (n, Q), `track`, perhaps `group` (n,).

    `track` says which are positives of each other for the run. Where that is by label nothing else
    is known to be compatible, and there is no `group`.
    """
    examples = run.dataset.examples("train")
    size = min(_BATCH, examples)
    batches = train_batches(run.dataset, "train", size, seed, view=run.view)
    count = max(1, min(_SAMPLE, examples) // size)
    drawn = [
        {"track": on_device(batch)["track"], **{name: batch[name] for name in ("video", "music")}}
        | ({"group": batch["group"]} if "group" in batch and "label" not in batch else {})
        for batch in _with_inputs(run, itertools.islice(batches, count))
    ]
    return {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}


def _with_inputs(run: TrainedRun, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
    """Each batch with `video` (b, P) and `music` (b, Q) as the intra-modal losses see them."""
    inputs_of = jax.jit(_inputs)
    for batch in batches:
        shown = {name: batch[name] for name in FIELDS if name in batch and name != "track"}
        video, music = inputs_of(shown, run.state.standardization)
        kept = {name: rows for name, rows in batch.items() if name not in shown}
        yield {**kept, "video": np.asarray(video), "music": np.asarray(music)}


def _inputs(
    batch: Mapping[str, jax.Array], standardization: Standardization
) -> tuple[jax.Array, jax.Array]:
    video, music = model_inputs(batch, standardization)
    return masked_mean(video.features, video.mask), masked_mean(music.features, music.mask)


def _told(rule: Rule) -> dict[str, Any]:
    sides = {"video": rule.video, "music": rule.music}
    return {"deviations": rule.deviations} | {
        side: usual._asdict() | {"threshold": usual.cosine(rule.deviations)}
        for side, usual in sides.items()
    }


def _named(embedded: Embeddings, suspect: dict[str, Any]) -> dict[str, Any]:
    """A suspect by the ids of its items, and the id of the track that the video is paired with."""
    video, track = suspect["video"], suspect["track"]
    partner = embedded.gt_music_index[video]
    return suspect | {
        "video": str(embedded.video_ids[video]),
        "partner": str(embedded.music_ids[partner]),
        "track": str(embedded.music_ids[track]),
    }
