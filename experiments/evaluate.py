"""Prints the retrieval table of a run's best checkpoint, of anybody's embeddings, or of a TREC run.

python -m experiments.evaluate --workdir=runs/vmnet --split=validation --baseline=cca
python -m experiments.evaluate --ensemble=runs/a,runs/b,models/c --ensemble_weights=chosen
python -m experiments.evaluate --embeddings=embeddings.npz --gallery=catalogue.npz
python -m experiments.evaluate --workdir=runs/vmnet --judgements=queue.csv --trec=trec
python -m experiments.evaluate --workdir=runs/vmnet --split=test --hubness=all
python -m experiments.evaluate --trec_run=trec/v2m.run --trec_qrels=trec/v2m.qrels
"""

import pathlib

from absl import flags

from vmr import distributed
from vmr.command import run
from vmr.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run to evaluate.")
_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "Embeddings (npz) to evaluate instead.")
_ENSEMBLE = flags.DEFINE_list(
    "ensemble", None, "Folders of runs and models to evaluate as one, by commas, or the folder of "
    "an ensemble. Their scores are added, each divided by its spread on validation.",
)  # fmt: skip
_WEIGHTS = flags.DEFINE_enum(
    "ensemble_weights", "equal", ["equal", "chosen"], "chosen: greedily, on the validation split."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "Split; read `test` once, at the end. Default: validation, or the file's own."
)
_BASELINE = flags.DEFINE_enum(
    "baseline", "none", ["none", "cca"], "Baseline to fit on the training split."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Dataset, if it moved since training; of an ensemble, if it is not the first "
    "run's; with --embeddings, of the baseline.",
)
_SEGMENTS = flags.DEFINE_integer(
    "segments", 1, "Parts of each sequence: beside whole items, segments query segments, tracks "
    "score by theirs, and SPLIT.segments.csv beside the results tells which part of a video fits "
    "which of its track. 1: whole items alone.", lower_bound=1,
)  # fmt: skip
_GALLERY = flags.DEFINE_string(
    "gallery", None, "Catalogue (npz or folder of experiments.embed) whose tracks, which need no "
    "video, join those of the split in a further table.",
)  # fmt: skip
_JUDGEMENTS = flags.DEFINE_string(
    "judgements", None, "CSV of judged pairs (diagnose --queue): beside the strict results, those "
    "with pairs judged compatible counted as relevant.",
)  # fmt: skip
_TREC = flags.DEFINE_string(
    "trec", None, "Folder for TREC files: v2m.run, v2m.qrels, m2v.run, m2v.qrels."
)
_TREC_DEPTH = flags.DEFINE_integer("trec_depth", 1000, "Items to a list there.", lower_bound=1)
_TREC_RUN = flags.DEFINE_string("trec_run", None, "TREC run to evaluate instead, anybody's.")
_TREC_QRELS = flags.DEFINE_string("trec_qrels", None, "TREC qrels of --trec_run.")
_TREC_GALLERY = flags.DEFINE_integer(
    "trec_gallery", None, "Items in the gallery of --trec_run. Default: as many as the files name.",
    lower_bound=1,
)  # fmt: skip
_HUBNESS = flags.DEFINE_list(
    "hubness", None, "Corrections of hubness, in a further table: all, or some of csls, nnn, "
    "inverted_softmax, qb_norm, sinkhorn; hubs by the training split, settings by validation.",
)  # fmt: skip
_BANK = flags.DEFINE_string("bank", None, "npz of training items, for --hubness of --embeddings.")
_VALIDATION = flags.DEFINE_string("validation", None, "npz of validation, likewise.")
_BANK_ITEMS = flags.DEFINE_integer(
    "bank_items", 50_000, "Training pairs to learn hubs from, a sample of more.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "JSON file of the results. Default, of a run: WORKDIR/results/SPLIT.json. What "
    "it holds beside the plain results of the same checkpoint (a baseline, segments, …) stays.",
)  # fmt: skip
_DISTRIBUTED = flags.DEFINE_string("distributed", None, distributed.FLAG_HELP)
flags.mark_flags_as_mutual_exclusive(["workdir", "ensemble", "embeddings", "trec_run"])
_OF_EMBEDDINGS = (_SPLIT, _DATA_DIR, _GALLERY, _JUDGEMENTS, _TREC, _HUBNESS)


@distributed.one_of_several(_DISTRIBUTED)
def main(_: list[str]) -> None:
    """Evaluates the run or the file, writes the results, prints the tables."""
    _refuse_wrong_combinations()
    # Seconds of imports, after the flags.
    from vmr.collection import open_collection
    from vmr.runs import ensemble, evaluate, hubness, judgements

    beyond = evaluate.Beyond(
        catalogue=open_collection(_GALLERY.value, "music") if _GALLERY.value else None,
        judgements=judgements.read(pathlib.Path(_JUDGEMENTS.value)) if _JUDGEMENTS.value else None,
        trec=pathlib.Path(_TREC.value) if _TREC.value else None,
        trec_depth=_TREC_DEPTH.value,
        hubness=hubness.options(
            *(_HUBNESS.value, _BANK_ITEMS.value, _BANK.value, _VALIDATION.value)
        ),
    )
    output, fits = pathlib.Path(_OUTPUT.value) if _OUTPUT.value else None, None
    if _TREC_RUN.value and _TREC_QRELS.value:
        files = pathlib.Path(_TREC_RUN.value), pathlib.Path(_TREC_QRELS.value)
        found = evaluate.evaluate_trec(*files, _TREC_GALLERY.value)
    elif _WORKDIR.value:
        workdir, split = pathlib.Path(_WORKDIR.value), _SPLIT.value or "validation"
        output = output or workdir / "results" / f"{split}.json"
        fits = evaluate.fits_file(output) if _SEGMENTS.value > 1 else None
        found = evaluate.evaluate_run(
            *(workdir, split, _BASELINE.value, _DATA_DIR.value, _SEGMENTS.value, beyond, fits)
        )
    elif _ENSEMBLE.value:
        of = ensemble.open_ensemble(_ENSEMBLE.value, _DATA_DIR.value, _WEIGHTS.value)
        print(of.in_words(), flush=True)
        split = _SPLIT.value or "validation"
        found = evaluate.evaluate_restored(
            *(of, "--ensemble", split, _BASELINE.value), beyond=beyond
        )
    elif _EMBEDDINGS.value:
        path = pathlib.Path(_EMBEDDINGS.value)
        found = evaluate.evaluate_file(
            *(path, _SPLIT.value, _BASELINE.value, _DATA_DIR.value, beyond)
        )
    else:
        raise UserError(
            "give --workdir=DIR, --ensemble=A,B, --embeddings=FILE.npz, or --trec_run=FILE and "
            "--trec_qrels=FILE"
        )
    if output:
        evaluate.write_results(output, found)
    print(evaluate.report(found, "model"))
    if output:
        print(f"\nwritten to {output}")
    if fits:
        print(f"which part of a video fits which of its track: {fits}")


def _refuse_wrong_combinations() -> None:
    """Raises UserError before the imports, so that a wrong combination of flags fails at once."""
    if bool(_TREC_RUN.value) != bool(_TREC_QRELS.value):
        raise UserError("--trec_run=FILE and --trec_qrels=FILE come together")
    if _TREC_GALLERY.value and not _TREC_RUN.value:
        raise UserError("--trec_gallery is of --trec_run: --gallery=FILE names a catalogue")
    for flag in _OF_EMBEDDINGS if _TREC_RUN.value else ():
        if flag.value is not None:
            raise UserError(
                f"--{flag.name} needs --workdir, --ensemble or --embeddings: a run file holds ids"
            )
    for flag in (_BANK, _VALIDATION):
        if flag.value is not None and (_HUBNESS.value is None or not _EMBEDDINGS.value):
            raise UserError(f"--{flag.name} is of --hubness with --embeddings=FILE.npz")
    if _DISTRIBUTED.value and not _WORKDIR.value:
        raise UserError("--distributed is of --workdir: it shares the embedding of a run's split")
    if not _WORKDIR.value and _SEGMENTS.value > 1:
        raise UserError("--segments needs --workdir: whole items and ensembles have no segments")
    if _WEIGHTS.value != "equal" and not _ENSEMBLE.value:
        raise UserError("--ensemble_weights is of --ensemble")
    if _EMBEDDINGS.value and _BASELINE.value != "none" and not _DATA_DIR.value:
        raise UserError(
            f"--baseline={_BASELINE.value} with --embeddings needs --data_dir=DIR, to be fitted on"
        )


if __name__ == "__main__":
    run(main)
