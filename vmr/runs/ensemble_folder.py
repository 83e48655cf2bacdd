"""Folder of an ensemble: `ensemble.json`, the model folders of its members, a card.

`ensemble.json` names the members' folders in their order, with fingerprints and coefficients, and
the fingerprint of the whole. `vmr.load` opens the folder like that of a model.
"""

import pathlib
from typing import Any

from vmr import tables
from vmr.disk import read_json, write_json, write_text
from vmr.errors import UserError
from vmr.runs import model_folder
from vmr.runs.ensemble_model import EnsembleModel, Member, require_together
from vmr.runs.model import load
from vmr.training.trained import is_model

MANIFEST = "ensemble.json"  # by which the folder of an ensemble is known
_SCHEMA_VERSION = 1
_FILES = rf"ensemble\.json|README\.md|member_\d+(/({model_folder.FILES}))?"


def is_ensemble(folder: pathlib.Path) -> bool:
    """True if a folder holds an ensemble rather than a run or a model."""
    return (folder / MANIFEST).is_file()


def write(
    ensemble: EnsembleModel, output: pathlib.Path, chosen: tuple[str, float] | None = None
) -> None:
    """Writes an ensemble's folder; it appears whole, in place of an earlier one, or not at all.

    Args:
      ensemble: members with their coefficients.
      output: folder to write.
      chosen: validation metric that chose the weights, and its value, for the card.

    Raises:
      UserError: the folder holds anything else, or cannot be written.
    """
    with model_folder.whole_folder(output, MANIFEST, "ensemble", _FILES) as folder:
        accounts = []
        for n, member in enumerate(ensemble.members):
            of_member = folder / f"member_{n}"
            of_member.mkdir()
            model_folder.fill(member.model, of_member)
            accounts.append({"folder": of_member.name, **member.account})
        content = {
            "schema_version": _SCHEMA_VERSION,
            "fingerprint": ensemble.fingerprint,
            "members": accounts,
        }
        write_json(folder / MANIFEST, content)
        write_text(folder / "README.md", card(ensemble, chosen))


def read(folder: pathlib.Path) -> EnsembleModel:
    """The ensemble in a folder that `write` wrote, checked by its fingerprints.

    Raises:
      UserError: `ensemble.json` or a member is missing or damaged.
    """
    path = folder / MANIFEST
    content = read_json(path)
    if content.get("schema_version") != _SCHEMA_VERSION:
        raise UserError(
            f"{path}: has schema_version {content.get('schema_version')!r}, expected "
            f"{_SCHEMA_VERSION}"
        )
    accounts = content.get("members")
    if not isinstance(accounts, list) or not accounts or not all(map(_is_account, accounts)):
        raise UserError(
            f"{path}: expected members, each with folder, name, model and a coefficient in (0, 1]"
        )
    ensemble = EnsembleModel(folder, tuple(_member(folder, account) for account in accounts))
    require_together(ensemble.members)
    if ensemble.fingerprint != content.get("fingerprint"):
        raise UserError(f"{folder} is damaged: its members are not those that were written")
    return ensemble


def _is_account(account: Any) -> bool:
    if not isinstance(account, dict):
        return False
    texts, share = (account.get(name) for name in ("folder", "name", "model")), "coefficient"
    return all(isinstance(text, str) for text in texts) and (
        type(account.get(share)) in (int, float) and 0 < account[share] <= 1 + 1e-9
    )


def _member(folder: pathlib.Path, account: dict[str, Any]) -> Member:
    of_member = folder / account["folder"]
    # A name alone: a folder that somebody sent must not point elsewhere.
    if of_member.parent != folder or not is_model(of_member):
        raise UserError(f"{folder / MANIFEST}: {account['folder']!r} is no model folder beside it")
    model = load(of_member)
    if model.fingerprint != account["model"]:
        raise UserError(f"{of_member} is another model than {MANIFEST} names")
    return Member(account["name"], model, float(account["coefficient"]))


def card(ensemble: EnsembleModel, chosen: tuple[str, float] | None = None) -> str:
    """Markdown of the card: an account for people, and a head for catalogues of models."""
    side = next(iter(ensemble.widths))
    rows = [["member", "folder", "coefficient", "width", "step", "fingerprint"]]
    for n, member in enumerate(ensemble.members):
        model, share = member.model, f"{member.coefficient:.4f}"
        name = tables.spell(member.name, "markdown")
        width, step = f"{model.embedding_width:,}", f"{model.step:,}"
        rows.append([name, f"`member_{n}`", share, width, step, f"`{model.fingerprint[:12]}`"])
    origin = "Its weights are equal before each score is divided by its spread on validation."
    if chosen:
        metric, value = chosen
        origin = (
            f"Its members were chosen greedily on the validation split, {metric} {value:.4g}, "
            "which is therefore better than it is on items never seen."
        )
    lines = [
        *("---", "library_name: vmr", "tags: [video-music-retrieval, cross-modal]", "---", ""),
        "# An ensemble of video-music retrieval models",
        "",
        f"It embeds items into {ensemble.embedding_width:,} numbers, the rows of "
        f"{len(ensemble.members)} models one after the other, so that inner products of unit "
        f"vectors are weighted sums of the members' scores. {origin}",
        "",
        tables.markdown(rows, "llrrrl"),
        "",
        "Each member's folder is a model by itself; its card tells the features that it expects, "
        "its results and its data.",
        "",
        *("## Use", "", "```python", "import vmr", ""),
        'model = vmr.load("this/folder")',
        f"rows = model.embed_{side}(features)  # (N, {ensemble.widths[side]}) -> "
        f"(N, {ensemble.embedding_width})",
        *("```", "", f"Fingerprint `{ensemble.fingerprint}`."),
    ]
    return "\n".join(lines) + "\n"
