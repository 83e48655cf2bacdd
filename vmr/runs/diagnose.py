"""Diagnosis of a run: suspected false negatives, hubs, the geometry of the embedding."""

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vmr import embeddings, tables
from vmr.data.pipeline import train_batches
from vmr.embeddings import Embeddings
from vmr.encoders.encoder import masked_mean
from vmr.errors import UserError
from vmr.evaluation.diagnosis.batch_negatives import batch_negatives
from vmr.evaluation.diagnosis.false_negatives import Items, false_negatives
from vmr.evaluation.diagnosis.geometry import CROWDED, FEW_DIRECTIONS, geometry
from vmr.evaluation.diagnosis.hubness import hubness
from vmr.evaluation.diagnosis.queue import label_queue
from vmr.evaluation.diagnosis.similarity import DEVIATIONS, Rule, measured_rule
from vmr.runs import judgements
from vmr.runs.ensemble import Restored
from vmr.runs.restore import restore_run
from vmr.training.inputs import FIELDS, Standardization, model_inputs
from vmr.training.reading import evaluation_batches, step_inputs
from vmr.training.run_dir import saved_config

Batch = Mapping[str, np.ndarray]

_BATCH = 256
# Number of training pairs from which the rule and the false negatives of a batch are estimated.
_SAMPLE = 4096


def diagnose_run(
    workdir: pathlib.Path,
    split: str,
    data_dir: str | None = None,
    *,
    deviations: float = DEVIATIONS,
    examples: int = 10,
    seed: int = 0,
    queue: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Diagnoses a run's best checkpoint on a split, for `results/diagnosis_{split}.json`.

    Keys: `split`, `step`, `videos`, `tracks`, `seed`; `geometry`, `hubness`, `false_negatives` and
    `batch`, see the functions of these names in `vmr.evaluation.diagnosis`; and `rule`, with
    `deviations` and, for `video` and `music`, the `median`, `deviation` and `threshold` of the
    cosines of inputs.
    Inputs are those of the intra-modal losses: the standardised features of each item, averaged
    over its clips, without text. The rule is measured on training pairs, for every split.

    Args:
      workdir: the run's folder.
      split: split of the run's dataset.
      data_dir: where the dataset lies now; None where it lay in training.
      deviations: that a similarity of inputs stands above the usual where items are alike.
      examples: suspects to name, at most, and to put into the queue.
      seed: seed of the drawn training pairs, of the rows to measure uniformity on, and of the
        queries that hubs and false negatives are counted for, where there are more than 20,000.
      queue: CSV file of suspects for a person to judge, see `judgements.write_queue`; the result
        then says under `queue` what it holds.

    Raises:
      UserError: no finished validation in the folder, no such split, a run of one modality, or a
        queue that is there but none of judgements.
    """
    if queue:
        judgements.read_if_there(queue)  # raises before minutes of work
    pairing = saved_config(workdir).pairing
    if pairing != "video_music":
        raise UserError(
            f"{workdir} compares {pairing} with itself; a diagnosis is of video and music"
        )
    run = restore_run(workdir, data_dir)
    run.dataset.examples(split)  # raises if there is no such split
    sample = _training_sample(run, seed)
    drawn = (sample["video"], sample["music"], sample["track"])
    # From training pairs, so that all splits of a run are judged by one rule.
    rule = measured_rule(*drawn, deviations=deviations, seed=seed)
    embedded = embeddings.collect(run.embed(split), split, {})
    items = _items(run, embedded)
    suspects = false_negatives(items, rule, examples=examples, seed=seed)
    found = {
        "split": split,
        "step": run.step,
        "videos": len(embedded.video_ids),
        "tracks": len(embedded.music_ids),
        "seed": seed,
        "geometry": geometry(
            embedded.video_emb, embedded.music_emb, embedded.gt_music_index, seed=seed
        ),
        "hubness": hubness(embedded.video_emb, embedded.music_emb, seed=seed),
        "rule": _told(rule),
        "false_negatives": suspects
        | {"examples": [_named(embedded, one) for one in suspects["examples"]]},
        "batch": batch_negatives(
            *drawn, rule, int(run.config.batch_size), group=sample.get("group")
        ),
    }
    if queue:
        suspected = label_queue(items, rule)
        # Read again: a person may have saved judgements in the meantime.
        earlier = judgements.read_if_there(queue)
        found["queue"] = judgements.write_queue(earlier, suspected, embedded, examples)
    return found


def _items(run: Restored, embedded: Embeddings) -> Items:
    batches = evaluation_batches(run.dataset, embedded.split, _BATCH, run.spec)
    # Passed off as embeddings, inputs are collected in the same order, each track once.
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


def suspicion(
    run: Restored, embedded: Embeddings, *, deviations: float = DEVIATIONS, seed: int = 0
) -> tuple[Items, Rule]:
    """Items of an embedded split with their inputs, and the rule for which of them are alike.

    As `diagnose_run` has them.

    Raises:
      UserError: deviations not above 0, or all training pairs drawn are of one track.
    """
    sample = _training_sample(run, seed)
    drawn = (sample["video"], sample["music"], sample["track"])
    return _items(run, embedded), measured_rule(*drawn, deviations=deviations, seed=seed)


def _training_sample(run: Restored, seed: int) -> dict[str, np.ndarray]:
    """Pairs drawn as in training: `video` (n, P), `music` (n, Q), `track`, perhaps `group` (n,).

    Pairs of equal `track` are positives of each other in this run. If positives are by label, no
    other compatible pairs are known, and there is no `group`.
    """
    examples = run.dataset.examples("train")
    size = min(_BATCH, examples)
    batches = train_batches(run.dataset, "train", size, seed, spec=run.spec)
    count = max(1, min(_SAMPLE, examples) // size)
    drawn = [
        {"track": step_inputs(batch)["track"], **{name: batch[name] for name in ("video", "music")}}
        | ({"group": batch["group"]} if "group" in batch and "label" not in batch else {})
        for batch in _with_inputs(run, itertools.islice(batches, count))
    ]
    return {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}


def _with_inputs(run: Restored, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches with the inputs of the intra-modal losses, `video` (b, P), `music` (b, Q)."""
    inputs_of = jax.jit(_inputs)
    for batch in batches:
        # Track ids are no input of the model, and stay in the batch as they are.
        shown = {name: batch[name] for name in FIELDS if name in batch and name != "track"}
        video, music = inputs_of(shown, run.trained.standardization)
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
    """Replaces the rows of a suspect by ids, and adds the id of the video's own track."""
    video, track = suspect["video"], suspect["track"]
    partner = embedded.gt_music_index[video]
    return suspect | {
        "video": str(embedded.video_ids[video]),
        "partner": str(embedded.music_ids[partner]),
        "track": str(embedded.music_ids[track]),
    }


_WAYS = ("v2m", "m2v")
_HEADINGS = ("video → music", "music → video")
# Skew above which we speak of hubs; the bound is ours.
_HUBS = 1.0
_WIDTHS = (46, 15)
# Suspects named where the queue holds all of them.
_NAMED = 10


def render(found: dict) -> str:
    """Renders the result of a diagnosis for a terminal, at most 100 columns wide."""
    title = (
        f"Diagnosis, {found['split']}, step {found['step']:,}: {found['videos']:,} videos, "
        f"{found['tracks']:,} unique tracks"
    )
    sections = (
        _geometry(found["geometry"]),
        _hubness(found["hubness"]),
        _false_negatives(found["false_negatives"], found["rule"]),
        _batch(found["batch"]),
        _examples(found["false_negatives"]["examples"][: _NAMED if "queue" in found else None]),
        [judgements.queue_in_words(found["queue"])] if "queue" in found else [],
    )
    return "\n\n".join([title, *("\n".join(section) for section in sections if section)])


def _geometry(found: dict) -> list[str]:
    sides = [found["video"], found["music"]]
    lines = [
        _line("GEOMETRY of the embedding", ("video", "music")),
        _line("uniformity (0: one point, about −4: even)", _each(sides, "uniformity", "{:.2f}")),
        _line("effective rank", _each(sides, "effective_rank", "{:.0f}")),
        _line("  of at most", _each(sides, "most_directions", "{:.0f}")),
        _line("alignment: squared distance of pairs", (f"{found['alignment']:.2f}", "")),
        _line("modality gap: distance of the centroids", (f"{found['modality_gap']:.2f}", "")),
    ]
    wrong = [
        f"! {name} has collapsed: {what}. Its neighbours mean little."
        for name in ("video", "music")
        for what in found[name]["collapse"]
    ]
    sound = (
        f"No collapse: uniformity is at most {CROWDED:g}, effective rank at least "
        f"{FEW_DIRECTIONS:.0%} of what it could be."
    )
    return [*lines, *(wrong or [f"→ {sound}"])]


def _hubness(found: dict) -> list[str]:
    ways = [found[way] for way in _WAYS]
    lines = [
        _line(f"HUBS in the lists of the {found['k']} nearest", _HEADINGS),
        _line("skew of occurrences", _each(ways, "skew", "{:.2f}")),
        _line("  of random lists", _each(ways, "skew_by_chance", "{:.2f}")),
        _line("items in no list", _each(ways, "antihubs", "{:.1%}")),
        _line("  of random lists", _each(ways, "antihubs_by_chance", "{:.1%}")),
        _line("lists that hold the largest hub", _each(ways, "largest_hub", "{:.1%}")),
        *_drawn(ways),
    ]
    hubs = [name for name, way in zip(_HEADINGS, ways, strict=True) if _has_hubs(way)]
    chance = " above that of random lists" if any(map(_is_drawn, ways)) else ""
    if not hubs:
        return [*lines, f"→ No hubs to speak of: the skew is at most {_HUBS:g}{chance}."]
    bound = f"skew more than {_HUBS:g}{chance}" if chance else f"skew above {_HUBS:g}"
    return [
        *lines,
        f"→ Hubs in {' and '.join(hubs)} ({bound}): a few items crowd the lists.",
        "  Scores relative to each item's neighbourhood are a remedy (CSLS, Conneau et al. 2018).",
    ]


def _has_hubs(way: dict) -> bool:
    # Of few queries beside a large gallery even random lists have a high skew.
    return way["skew"] - (way["skew_by_chance"] if _is_drawn(way) else 0.0) > _HUBS


def _is_drawn(way: dict) -> bool:
    return "sampled_from" in way


def _false_negatives(found: dict, rule: dict) -> list[str]:
    ways = [found[way] for way in _WAYS]
    lines = [
        _line("SUSPECTED FALSE NEGATIVES", _HEADINGS),
        _line("unpaired items that rank above the partner", _each(ways, "above", "{:,}")),
        _line("  suspected: their inputs are alike", _each(ways, "suspected", "{:,}")),
        _line("queries", _each(ways, "queries", "{:,}")),
        _line("  that have a suspect", _each(ways, "queries_with_suspects", "{:,}")),
        *_drawn(ways),
    ]
    if "truth" in ways[0]:
        truths = [way["truth"] for way in ways]
        lines += [
            _line("truly compatible, of what ranks above", _each(truths, "base_rate", "{:.1%}")),
            _line("  of the suspected (precision)", _each(truths, "precision", "{:.1%}")),
            _line("  times as often (lift)", _each(truths, "lift", "{:.1f}")),
            _line("  found among the suspected (recall)", _each(truths, "recall", "{:.1%}")),
        ]
    thresholds = (f"{rule[side]['threshold']:.2f} ({side})" for side in ("video", "music"))
    counts = (f"{at['suspected']:,} ({at['deviations']:g})" for at in ways[0]["by_deviations"])
    return [
        *lines,
        f"→ Alike: cosine of inputs above {' or '.join(thresholds)}, {rule['deviations']:g} "
        "deviations above the usual.",
        "  Suspects are to be looked at, not proven. Of video → music by --deviations, there are",
        f"  {', '.join(counts)}.",
    ]


def _drawn(ways: Sequence[dict]) -> list[str]:
    """Line about the queries, where those of a direction were too many to look at all."""
    counts = [
        f"{way['queries']:,} of {way['sampled_from']:,} ({name})"
        for name, way in zip(_HEADINGS, ways, strict=True)
        if _is_drawn(way)
    ]
    return [f"  of queries drawn by --seed: {', '.join(counts)}"] if counts else []


def _batch(found: dict) -> list[str]:
    shares = [("suspected", "suspected_share", "suspected_per_anchor", found)]
    if "compatible_at_most" in found:
        label = "compatible at most, by videos of one track"
        shares.append((label, "compatible_at_most", "compatible_at_most_per_anchor", found))
    if "truth" in found:
        label = "truly compatible"
        shares.append((label, "compatible_share", "compatible_per_anchor", found["truth"]))
    chance = found["by_chance"]
    verdict = "More" if found["suspected_share"] > chance else "No more"
    return [
        _line(f"NEGATIVES of a training batch of {found['batch_size']:,}", ("share", "per anchor")),
        *(
            _line(label, (f"{part[share]:.2%}", f"{part[per_anchor]:.2f}"))
            for label, share, per_anchor, part in shares
        ),
        f"→ {verdict} are suspected than the {chance:.2%} that normal similarities would give.",
        "  If many are compatible: config.loss.inter=crossclr leaves some out of the negatives;",
        "  config.positives=label takes items of one label for positives.",
    ]


def _examples(found: Sequence[dict]) -> list[str]:
    """Lines of the suspects, with the deviations of their videos and of their tracks."""
    if not found:
        return []
    lines = [["LOOK AT FIRST", "its track", "above it", "video", "music", ""]]
    for one in found:
        by_video, by_music = one["video_deviations"], one["music_deviations"]
        known = {True: "truly compatible", False: "not compatible", None: ""}[one["compatible"]]
        alike = ("–" if by_video is None else f"{by_video:+.1f}", f"{by_music:+.1f}")
        lines.append([f"  {one['video']}", one["partner"], one["track"], *alike, known])
    return tables.text(lines, "l").splitlines()


def _each(parts: Sequence[dict], key: str, form: str) -> list[str]:
    return ["–" if part[key] is None else form.format(part[key]) for part in parts]


def _line(name: str, cells: Sequence[str]) -> str:
    label, width = _WIDTHS
    return (name.ljust(label) + "".join(cell.rjust(width) for cell in cells)).rstrip()
