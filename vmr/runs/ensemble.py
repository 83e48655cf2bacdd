"""Ensembles of trained models over the same items, with equal weights or weights by validation.

Scores of models have different spreads: member m counts by w_m / σ_m, where σ_m is the standard
deviation of its scores over all videos × tracks of the validation split, and its coefficient is
a_m = (w_m / σ_m) / Σ (w / σ). See `vmr.runs.ensemble_model` for the rows.
"""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from vmr import embeddings
from vmr.data.batch_spec import BatchSpec
from vmr.data.dataset import Dataset
from vmr.embeddings import Embeddings
from vmr.errors import UserError
from vmr.evaluation.evaluate import recalls
from vmr.media.recipe import require_same
from vmr.progress_bar import progress_bar
from vmr.runs import ensemble_folder
from vmr.runs.ensemble_model import (
    EnsembleModel,
    Member,
    concatenated,
    origin,
    require_together,
)
from vmr.runs.model import load
from vmr.runs.restore import TrainedRun, on_dataset, restore_run
from vmr.training.reading import dataset_of
from vmr.training.trained import is_model

WEIGHTS = ("equal", "chosen")
ROUNDS = 50  # of the greedy choice, at most
_PATIENCE = 5  # rounds without a better ensemble, after which the choice ends
_LEAST_SPREAD = 1e-6  # of scores, below which they are rounding noise
_BLOCK = 8192  # rows in float64 at a time


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Trained models with a dataset, used in the place of a `vmr.runs.restore.TrainedRun`.

    Attributes:
      members: models with their coefficients.
      runs: the same models, each with the dataset.
      dataset: dataset whose splits are embedded.
      chosen: validation metric that chose the weights, and its value; None where none did.
      step: None, since members have steps of their own.
    """

    members: tuple[Member, ...]
    runs: tuple[TrainedRun, ...]
    dataset: Dataset
    chosen: tuple[str, float] | None = None
    step: None = None

    @property
    def spec(self) -> BatchSpec:
        """Form of the first member's batches; each member reads batches of its own form."""
        return self.runs[0].spec

    @property
    def config(self) -> ml_collections.ConfigDict:
        """Config of the first member."""
        return self.runs[0].config

    @property
    def trained(self) -> Any:
        """Parameters of the first member, and the statistics that standardise its inputs."""
        return self.runs[0].trained

    @property
    def model(self) -> EnsembleModel:
        """The ensemble without its dataset."""
        return EnsembleModel(pathlib.Path("ensemble"), self.members)

    def embed(self, split: str, batch_size: int = 1000) -> Iterator[dict[str, np.ndarray]]:
        """Embeds a split in stored order; yields batches as `TrainedRun.embed`.

        Raises:
          UserError: two members read other items of the split.
        """
        coefficients = [member.coefficient for member in self.members]
        streams = [run.embed(split, batch_size) for run in self.runs]
        for batches in zip(*streams, strict=True):
            self._require_same_items(split, batches)
            rows = {
                name: concatenated(coefficients, [batch[name] for batch in batches])
                for name in ("video_emb", "music_emb")
            }
            # Ids, and true relevance where it is known, are those of the first member.
            yield {**batches[0], **rows}

    def _require_same_items(self, split: str, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        for member, batch in zip(self.members[1:], batches[1:], strict=True):
            for name in ("video_id", "music_id"):
                if not np.array_equal(batch[name], batches[0][name]):
                    raise UserError(
                        f"{member.model.folder} and {self.members[0].model.folder} read other "
                        f"items of the split {split} of {self.dataset.data_dir}: {name} differs"
                    )

    def meta(self) -> dict[str, Any]:
        """Origin of this ensemble's embeddings, the `meta` of their npz.

        As that of a run, but under `ensemble` the name, the fingerprint, the step, the fingerprint
        of the training data and the coefficient of each member; `config` is the first member's.
        """
        known: dict[str, Any] = {"dataset_fingerprint": self.dataset.fingerprint}
        if self.dataset.extractors:
            known["extractors"] = dict(self.dataset.extractors)
        return origin(self.members) | known

    def in_words(self) -> str:
        """Members with their coefficients and, where weights were chosen, the validation result."""
        told = ", ".join(f"{member.name} {member.coefficient:.3f}" for member in self.members)
        width = sum(member.model.embedding_width for member in self.members)
        words = f"ensemble of {len(self.members)}, rows of width {width:,}: {told}"
        if self.chosen is None:
            return words
        metric, value = self.chosen
        digits = 3 if metric.endswith("MRR") else 1
        return f"{words}; chosen by validation {metric} {value:.{digits}f}"


Restored = TrainedRun | Ensemble


def restored(folder: pathlib.Path, data_dir: str | None = None) -> Restored:
    """The run in a folder, see `restore_run`, or the ensemble, see `open_ensemble`."""
    if ensemble_folder.is_ensemble(folder):
        return open_ensemble([folder], data_dir)
    return restore_run(folder, data_dir)


def open_ensemble(
    paths: Sequence[str | pathlib.Path], data_dir: str | None = None, weights: str = "equal"
) -> Ensemble:
    """Opens an ensemble of trained models with a dataset.

    Args:
      paths: folders of runs and of models, in any mixture; or the folder of one ensemble, which has
        its coefficients.
      data_dir: folder of the dataset; None for that of the first run among them.
      weights: `equal`, or `chosen` by greedy selection on the validation split, see
        `greedy_counts`, for the first member's `config.selection`.

    Raises:
      UserError: no model there, one twice, members of other items, widths or extractors, no
        dataset, one without a validation split where weights need it, or scores of no spread.
    """
    folders = _checked_folders(paths)
    if any(map(ensemble_folder.is_ensemble, folders)):
        return _opened_folder(folders, data_dir, weights)
    members = [Member(folder.resolve().name, load(folder), 1.0) for folder in folders]
    _require_distinct(members)
    dataset = _dataset_of(members, data_dir)
    runs = _with_dataset(members, dataset)
    if len(members) == 1:
        return Ensemble(tuple(members), runs, dataset)
    return weighted(members, runs, dataset, weights)


def weighted(
    members: Sequence[Member], runs: Sequence[TrainedRun], dataset: Dataset, weights: str
) -> Ensemble:
    """Ensemble of two members or more with coefficients by their spreads on validation.

    Args:
      members: models; their coefficients are not read.
      runs: the same models with the dataset.
      dataset: dataset with a validation split.
      weights: see `open_ensemble`.
    """
    dataset.examples("validation")  # raises where it is missing
    embedded = []
    for run in progress_bar(runs, desc="validation", unit=" members"):
        embedded.append(embeddings.collect(run.embed("validation"), "validation", {}))
    for member, of in zip(members[1:], embedded[1:], strict=True):
        if not all(
            np.array_equal(getattr(of, name), getattr(embedded[0], name))
            for name in ("video_ids", "music_ids", "gt_music_index")
        ):
            raise UserError(
                f"{member.model.folder} and {members[0].model.folder} read other items of the "
                f"validation split of {dataset.data_dir}"
            )
    spreads = [_sound_spread(member, of) for member, of in zip(members, embedded, strict=True)]
    counts, chosen = [1] * len(members), None
    if weights == "chosen":
        metric = str(runs[0].config.selection)
        counts, value = _chosen_counts(embedded, spreads, metric)
        chosen = metric, value
    shares = coefficients_of(counts, spreads)
    kept = [n for n, share in enumerate(shares) if share]
    return Ensemble(
        tuple(dataclasses.replace(members[n], coefficient=shares[n]) for n in kept),
        tuple(runs[n] for n in kept),
        dataset,
        chosen,
    )


def coefficients_of(weights: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """Coefficients a_m = (w_m / σ_m) / Σ (w / σ) of K members."""
    shares = [weight / spread for weight, spread in zip(weights, spreads, strict=True)]
    return [share / math.fsum(shares) for share in shares]


def score_spread(video_emb: np.ndarray, music_emb: np.ndarray) -> float:
    """Standard deviation of all inner products of (N, D) and (M, D) rows.

    Exact, by moments of D × D: Σ s² = ⟨VᵀV, TᵀT⟩ over all pairs, so that no N × M matrix is made.
    """
    (sum_v, gram_v), (sum_t, gram_t) = _moments(video_emb), _moments(music_emb)
    pairs = len(video_emb) * len(music_emb)
    mean = sum_v @ sum_t / pairs
    variance = float(np.sum(gram_v * gram_t) / pairs - mean**2)
    # Rounding may leave less than 0 of equal scores; NaN stays NaN.
    return math.sqrt(0.0 if variance < 0 else variance)


def _moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum (D,) and Gram matrix (D, D) of rows (n, D), in float64."""
    total, gram = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        total += block.sum(axis=0)
        gram += block.T @ block
    return total, gram


def _sound_spread(member: Member, embedded: Embeddings) -> float:
    spread = score_spread(embedded.video_emb, embedded.music_emb)
    if not spread > _LEAST_SPREAD:  # NaN too
        found = "one score" if math.isfinite(spread) else "NaN or infinity"
        raise UserError(
            f"{member.model.folder} gives all pairs of the validation split {found}, expected "
            "scores that differ"
        )
    return spread


def greedy_counts(
    score: Callable[[tuple[int, ...]], float], members: int, rounds: int = ROUNDS
) -> tuple[list[int], float]:
    """Greedy selection with replacement: how often each of K members is taken, and its score.

    Each round adds the member with which the ensemble scores highest; of equals one that is in
    already, then the first. The result is that of the best round, of equals the earliest; the
    choice ends five rounds after it, or at the last. (Caruana, Niculescu-Mizil, Crew, Ksikes,
    "Ensemble Selection from Libraries of Models", ICML 2004.)

    Args:
      score: function of the K counts, not all 0; higher is better.
      members: K.
      rounds: most members to take, repetitions included.
    """
    counts, best = (0,) * members, ((0,) * members, -math.inf)
    since = 0
    for _ in range(rounds):
        grown = [(*counts[:n], counts[n] + 1, *counts[n + 1 :]) for n in range(members)]
        scores = [score(candidate) for candidate in grown]
        n = max(range(members), key=lambda n: (scores[n], counts[n] > 0, -n))
        counts, since = grown[n], since + 1
        if scores[n] > best[1]:
            best, since = (counts, scores[n]), 0
        if since == _PATIENCE:
            break
    return list(best[0]), best[1]


def _chosen_counts(
    embedded: Sequence[Embeddings], spreads: Sequence[float], metric: str
) -> tuple[list[int], float]:
    """Greedy counts by a validation metric such as `v2m/R@10`."""
    index = embedded[0].gt_music_index
    with progress_bar(desc="choosing", unit=" ensembles") as bar:

        @functools.cache
        def of_ratio(ratio: tuple[int, ...]) -> float:
            shares = coefficients_of(ratio, spreads)
            kept = [n for n, share in enumerate(shares) if share]
            video, music = (
                concatenated([shares[n] for n in kept], [getattr(embedded[n], side) for n in kept])
                for side in ("video_emb", "music_emb")
            )
            bar.update(1)
            return recalls(video, music, index)[metric]

        def score(counts: tuple[int, ...]) -> float:
            divisor = math.gcd(*counts)  # (2, 2) is the ensemble of (1, 1)
            return of_ratio(tuple(count // divisor for count in counts))

        return greedy_counts(score, len(embedded))


def _checked_folders(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    if not paths or not all(map(str, paths)):
        raise UserError("--ensemble: has an empty path, expected folders of runs and models")
    folders = [pathlib.Path(path).expanduser() for path in paths]
    seen: dict[pathlib.Path, pathlib.Path] = {}
    for folder in folders:
        if folder.resolve() in seen:
            raise UserError(f"--ensemble: {folder} is there twice; chosen weights may repeat it")
        seen[folder.resolve()] = folder
    return folders


def _require_distinct(members: Sequence[Member]) -> None:
    seen: dict[str, pathlib.Path] = {}
    for member in members:
        other = seen.setdefault(member.model.fingerprint, member.model.folder)
        if other != member.model.folder:
            raise UserError(
                f"--ensemble: {other} and {member.model.folder} are the same model, "
                f"{member.model.fingerprint[:12]}"
            )


def _opened_folder(folders: Sequence[pathlib.Path], data_dir: str | None, weights: str) -> Ensemble:
    if len(folders) > 1 or weights != "equal":
        folder = next(filter(ensemble_folder.is_ensemble, folders))
        raise UserError(
            f"{folder} is an ensemble with its own weights: expected it alone, without chosen ones"
        )
    members = ensemble_folder.read(folders[0]).members
    dataset = _dataset_of(members, data_dir)
    return Ensemble(members, _with_dataset(members, dataset), dataset)


def _dataset_of(members: Sequence[Member], data_dir: str | None) -> Dataset:
    """The dataset in `data_dir`, else that of the first run, with its share of training pairs."""
    if data_dir:
        return dataset_of(members[0].model.config, data_dir)
    for member in members:
        if not is_model(member.model.folder):  # a model folder does not tell where its data lay
            return dataset_of(member.model.config)
    raise UserError("an ensemble of model folders alone needs --data_dir=DIR, its dataset")


def _with_dataset(members: Sequence[Member], dataset: Dataset) -> tuple[TrainedRun, ...]:
    require_together(members)
    for member in members:
        require_features(member, dataset)
    return tuple(on_dataset(member.model, dataset) for member in members)


def require_features(member: Member, dataset: Dataset) -> None:
    """Raises UserError if a dataset's features are not those that a model was trained on."""
    folder = member.model.folder
    for side, width in member.model.widths.items():
        stored = dataset.schema.modalities.get(side)
        if stored is not None and stored.width != width:
            raise UserError(
                f"{folder} reads {side} features of width {width}, {dataset.data_dir} has "
                f"{stored.width}"
            )
        known, here = member.model.extractors.get(side), dataset.extractors.get(side)
        if known and here:
            remark = require_same(known, here, f"{dataset.data_dir}: {side}, for {folder},")
            if remark:
                print(remark, flush=True)
