"""Finds music for a video, or videos for music, in embeddings or in an index of them.

python -m experiments.search --model=runs/vmnet --embeddings=catalogue.npz --video=clip.mp4 --top=5
python -m experiments.search --index=index --queries=test.npz --video=ID --format=json
"""

from absl import flags

from vmr.command import run

_MODEL = flags.DEFINE_string("model", None, "Run or model that embeds a file; others' are refused.")
_INDEX = flags.DEFINE_string("index", None, "Folder of experiments.index to search.")
_EMBEDDINGS = flags.DEFINE_string("embeddings", None, "npz or folder to search, exactly.")
_SIDE = flags.DEFINE_enum(
    "side", None, ["video", "music"], "Modality to search, of an npz of both. Default: the other."
)
_VIDEO = flags.DEFINE_string(
    "video", None, "Video to search by: a media file, x.npy of features, (P,) or (T, P), or an id "
    "of --queries or of what is searched.",
)  # fmt: skip
_MUSIC = flags.DEFINE_string("music", None, "Track to search by, in the same way.")
_ONNX = flags.DEFINE_string("onnx", None, "File of the model's extractor, if that is an onnx file.")
_TEXT = flags.DEFINE_string("text", None, "Words of the video's file, or npy of their embeddings.")
_QUERIES = flags.DEFINE_string("queries", None, "npz or folder of embedded items that ids are of.")
_TOP = flags.DEFINE_integer("top", 10, "Hits.", lower_bound=1)
_MIN_SCORE = flags.DEFINE_float("min_score", -float("inf"), "Least inner product of a hit.")
_EXCLUDE = flags.DEFINE_string("exclude", None, "Ids by commas, or a file of one a line: no hits.")
_HUBNESS = flags.DEFINE_enum(
    "hubness", "none", ["none", "csls", "nnn", "inverted_softmax", "qb_norm", "sinkhorn"],
    "csls: rank by 2·score less the mean scores of query and item with their 10 nearest, the "
    "item's of --queries. Others: score plus an offset of the item, by them too. Exact search alone.",
)  # fmt: skip
_K = flags.DEFINE_integer("hubness_k", None, "Nearest queries of nnn. Default: 128.")
_ALPHA = flags.DEFINE_float("hubness_alpha", None, "Their weight in nnn. Default: 0.75.")
_BETA = flags.DEFINE_float(
    "hubness_beta", None, "Inverse temperature of inverted_softmax and qb_norm (default: 12) and "
    "of sinkhorn (10).",
)  # fmt: skip
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "json", "csv"], "Form of the hits.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write. Default: standard output.")


def main(_: list[str]) -> None:
    """Embeds or looks up the item, searches, prints the hits, and beside them what to know."""
    from vmr.retrieval import answers, corrected, query  # seconds of imports, after the flags

    setting = corrected.setting_of(_HUBNESS.value, _K.value, _ALPHA.value, _BETA.value)
    side, item = query.one_item(_VIDEO.value, _MUSIC.value)
    searched = query.open_searched(_INDEX.value, _EMBEDDINGS.value, side, _SIDE.value)
    queries = query.open_queries(_QUERIES.value, searched, side)
    model = query.load_model(_MODEL.value)
    asked = query.read_query(item, side, searched, queries, model, _TEXT.value, _ONNX.value)
    found = answers.answer(
        *(asked, searched, _TOP.value),
        min_score=_MIN_SCORE.value,
        exclude=query.excluded_ids(_EXCLUDE.value, searched),
        hubness=_HUBNESS.value,
        bank=queries,
        setting=setting,
    )
    answers.give(found, _FORMAT.value, _OUTPUT.value)


if __name__ == "__main__":
    run(main)
