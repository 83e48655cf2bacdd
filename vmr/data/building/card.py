"""Dataset card: the README.md of a dataset folder, one page of Markdown."""

from collections.abc import Mapping

import numpy as np

from vmr.data.accounts import accounts_table
from vmr.data.dataset import chance_levels
from vmr.data.modality import Modality
from vmr.data.schema import Text
from vmr.data.sources.source import LeftOut, Source


def dataset_card(
    source: Source,
    videos_per_track: Mapping[str, np.ndarray],
    command: str,
    content_fingerprint: str,
) -> str:
    """Writes the text of README.md for a dataset.

    Args:
      source: source of the dataset.
      videos_per_track: number of videos of each track, by split, (M,) int64.
      command: command line that built the dataset.
      content_fingerprint: fingerprint of the content, see `vmr.data.dataset.fingerprint`.
    """
    rows = [_row(split, counts.tolist()) for split, counts in videos_per_track.items()]
    schema = source.schema
    lines = [
        f"# {source.name}",
        "",
        source.description,
        "",
        f"Licence: {source.licence}",
        "",
        "| split | videos | tracks | chance v2m R@1 / R@10 | chance m2v R@1 / R@10 |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Chance is the recall of random scores, in percent, over the whole split.",
        "",
        "| field | stored as |",
        "|---|---|",
        *(f"| {name} | {_describe(modality)} |" for name, modality in schema.modalities.items()),
        *([f"| text | {_describe_text(schema.text)} |"] if schema.text else []),
        "| video_id, music_id | text |",
        "| music_index | int64, the track among the distinct tracks of all splits |",
        *(["| labels | int64 list, as the source gives them |"] if schema.has_labels else []),
        *(["| group | int64, items of equal group go together |"] if schema.has_groups else []),
        *(["", accounts_table(source.extractors)] if source.extractors else []),
        *_left_out(source.left_out),
        "",
        "Built by:",
        "",
        f"    {command}",
        "",
        f"Fingerprint of the content (SHA-256): `{content_fingerprint}`",
        "",
        "Read by `vmr.data.dataset.open_dataset` or by "
        "`tensorflow_datasets.builder_from_directory`.",
    ]
    return "\n".join(lines) + "\n"


def _left_out(left_out: LeftOut) -> list[str]:
    if not left_out.reasons:
        return []
    title = f"Left out, since they cannot be read (--skip_bad={left_out.most}):"
    return [
        "",
        title,
        "",
        *(f"- {left_out.names[at]}: {why}" for at, why in left_out.reasons.items()),
    ]


def _row(split: str, multiplicities: list[int]) -> str:
    chance = chance_levels(multiplicities)
    levels = " | ".join(
        f"{chance[way]['R@1']:.2f} / {chance[way]['R@10']:.2f}" for way in ("v2m", "m2v")
    )
    return f"| {split} | {sum(multiplicities)} | {len(multiplicities)} | {levels} |"


def _describe(modality: Modality) -> str:
    if modality.quantized:
        return f"uint8 frames (T, {modality.width}); value = q·4/255 + 4/512 − 2"
    if modality.sequence:
        return f"float32 sequence (T, {modality.width})"
    return f"float32 vector ({modality.width},)"


def _describe_text(text: Text) -> str:
    if text.embedded:
        return f"float32 embeddings (L, {text.width}), none where the text is absent"
    return "text that comes with the video, empty where it is absent"
