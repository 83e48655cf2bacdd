"""A model folder, which can be sent to somebody: `model.safetensors`, `config.json`, a card.

The card, README.md, tells what the model is, what features it expects, its table with intervals,
and what data it was trained on. `vmr.training.trained` reads it.
"""

import contextlib
import json
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import safetensors.numpy

from vmr.data.accounts import accounts_table
from vmr.disk import read_json, write_json
from vmr.errors import UserError
from vmr.evaluation import render_markdown
from vmr.runs.model import Model
from vmr.training.config import resolved
from vmr.training.trained import ARRAYS, KEY, arrays_of

FILES = rf"{re.escape(ARRAYS)}|config\.json|README\.md"  # regular expression of its paths


def write(model: Model, output: pathlib.Path) -> None:
    """Writes a model folder; it appears whole, in place of an earlier model's, or not at all.

    Raises:
      UserError: the folder holds anything else, or cannot be written.
    """
    with whole_folder(output, ARRAYS, "model", FILES) as folder:
        fill(model, folder)


@contextlib.contextmanager
def whole_folder(output: pathlib.Path, mark: str, what: str, files: str) -> Iterator[pathlib.Path]:
    """Names an unfinished folder, which takes the place of `output` at the end.

    Args:
      output: folder to write; an earlier one of this kind is replaced.
      mark: file by which a folder of this kind is known.
      what: name of the kind, for messages.
      files: regular expression of the paths that such a folder holds.

    Raises:
      UserError: the folder holds anything else, or cannot be written; it is left as it is.
    """
    try:
        top = list(output.iterdir()) if output.exists() else []  # raises where it is a file
        paths = [path.relative_to(output) for path in output.rglob("*")] if top else []
        there = {path.as_posix() for path in paths}
        if there and mark not in there:
            raise UserError(f"{output} is there and holds no {what}: it is left as it is")
        # Many models of others have a file of the same name, and more beside it.
        others = {path for path in paths if not re.fullmatch(files, path.as_posix())}
        if others:
            told = ", ".join(sorted(str(path) for path in others if path.parent not in others))
            raise UserError(f"{output} holds {told} beside its {what}: it is left as it is")
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=output.parent, prefix=f".{output.name}."
        ) as unfinished:
            folder = pathlib.Path(unfinished) / "whole"
            folder.mkdir()
            yield folder
            if output.exists():
                output.replace(folder.with_name("earlier"))  # goes with the unfinished folder
            folder.replace(output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from None


def fill(model: Model, folder: pathlib.Path) -> None:
    """Writes the files of a model folder into an empty folder."""
    facts = {"fingerprint": model.fingerprint, "step": model.step, "data": dict(model.data)}
    metadata = {KEY: json.dumps(facts)}
    # Its own writer of files would make one that nobody else may read.
    content = safetensors.numpy.save(arrays_of(model.trained), metadata=metadata)
    (folder / ARRAYS).write_bytes(content)
    # Where the data lay is nobody else's matter.
    config = ml_collections.ConfigDict(resolved(model.config))
    config.dataset.data_dir = "not part of a model"
    if config.init_from:
        config.init_from = "not part of a model"
    if config.loss.teacher:
        config.loss.teacher = "not part of a model"
    write_json(folder / "config.json", resolved(config))
    (folder / "README.md").write_text(card(model, _results(model)), encoding="utf-8")


def _results(model: Model) -> dict[str, dict[str, Any]]:
    """Results of the model's step by split, as its run's folder holds them."""
    results = {}
    for path in sorted((model.folder / "results").glob("*.json")):
        found = read_json(path)
        if found.get("step") == model.step and found.get("split") == path.stem:
            results[path.stem] = found
    return results


def card(model: Model, results: Mapping[str, dict[str, Any]]) -> str:
    """Markdown of the card: an account for people, and a head for catalogues of models.

    Args:
      model: the model.
      results: results of its checkpoint by split, as `vmr.runs.evaluate` gives them.
    """
    data = model.data
    tables = [
        f"### {split}\n\n{render_markdown([('model', found)])}" for split, found in results.items()
    ]
    lines = [
        *("---", "library_name: vmr", "tags: [video-music-retrieval, cross-modal]", "---", ""),
        "# A video-music retrieval model",
        "",
        _account(model),
        "",
        *("## Features that it expects", "", *_features(model), ""),
        *("## Results", "", *(tables or ["None were measured at this step."]), ""),
        *("## Training data", "", *_data(data), ""),
        *("## Use", "", *_use(model), ""),
        f"Step {model.step:,}; fingerprint `{model.fingerprint}`.",
    ]
    return "\n".join(lines) + "\n"


def _account(model: Model) -> str:
    config, start = model.config, model.data.get("init_from")
    teacher = model.data.get("teacher")
    towers = {side: config.model[side].encoder for side in model.widths}
    encoders = " and ".join(f"{side} by a {name}" for side, name in towers.items())
    return (
        f"It embeds {encoders} encoder into one space of {model.embedding_width} numbers, where "
        f"inner products of unit vectors are scores. It was trained with the losses "
        f"`{config.loss.inter}` between and `{config.loss.intra}` within the modalities"
        + (f", from the parameters of model `{start['fingerprint']}`" if start else "")
        + (f", distilled from {_teacher(teacher)}" if teacher else "")
        + "."
        + _soup(model)
    )


def _soup(model: Model) -> str:
    """Sentence on the models whose mean this one is; empty if it is none."""
    accounts = model.data.get("soup")
    if not accounts:
        return ""
    told = (f"`{one['fingerprint']}` (step {one['step']:,})" for one in accounts)
    return (
        f" Its parameters are the mean of those of {len(accounts)} models that were fine-tuned "
        f"from that one (Wortsman et al., Model soups, ICML 2022): {', '.join(told)}."
    )


def _teacher(teacher: Mapping[str, Any]) -> str:
    model = teacher.get("model")
    return f"model `{model}`" if model else f"embeddings of SHA-256 `{teacher.get('content')}`"


def _features(model: Model) -> Sequence[str]:
    known = model.data.get("features", {})
    rows = [
        f"| {side} | {width} | {_form(known.get(side))} |" for side, width in model.widths.items()
    ]
    table = ["| modality | width | trained on |", "|---|---:|---|", *rows]
    accounts = {side: of for side, of in model.extractors.items() if side in model.widths}
    return [*table, "", accounts_table(accounts)] if accounts else table


def _form(modality: Mapping[str, Any] | None) -> str:
    if modality is None:
        return "not known"
    if modality["quantized"]:
        return "sequences, quantised to bytes as YouTube-8M's"
    return "sequences (T, width)" if modality["sequence"] else "vectors"


def _data(data: Mapping[str, Any]) -> Sequence[str]:
    of_soup = dict.fromkeys(str(one["dataset_fingerprint"]) for one in data.get("soup", ()))
    others = [f"`{name}`" for name in of_soup if name != data.get("fingerprint")]
    return [
        f"- name: {data.get('name') or 'not known'}",
        f"- licence: {data.get('licence') or 'not known'}",
        f"- fingerprint of the content: `{data.get('fingerprint') or 'not known'}`",
        *([f"- others of its models were trained on: {', '.join(others)}"] if others else []),
    ]


def _use(model: Model) -> Sequence[str]:
    side = next(iter(model.widths))
    return [
        "```python",
        "import vmr",
        "",
        'model = vmr.load("this/folder")',
        f"rows = model.embed_{side}(features)  # (N, {model.widths[side]}) -> "
        f"(N, {model.embedding_width})",
        "```",
    ]
