"""Builds an approximate index of a catalogue by faiss, and measures how well it finds.

python -m experiments.index --embeddings=catalogue.npz --kind=ivf --queries=test.npz --output=index
"""

import pathlib

from absl import flags

from vmr.command import run

_EMBEDDINGS = flags.DEFINE_string(
    "embeddings", None, "npz, or folder of experiments.embed, to index.", required=True
)
_SIDE = flags.DEFINE_enum(
    "side", None, ["video", "music"], "Modality to index, where an npz holds both."
)
_KIND = flags.DEFINE_enum(
    "kind", "ivf", ["flat", "ivf", "hnsw", "sq8"],
    "flat: all rows; ivf: 4 sqrt(items) lists in half precision, of which 16 are read, or as many "
    "more as recall@10 of 0.99 takes; hnsw: a graph of 32 links a row; sq8: a byte a number.",
)  # fmt: skip
_QUERIES = flags.DEFINE_string(
    "queries", None, "npz or folder of the other modality to measure recall@10 by. Default: of "
    "--embeddings, if it holds both; else its own rows with noise, which flatters.",
)  # fmt: skip
_OUTPUT = flags.DEFINE_string("output", None, "Folder of the index.", required=True)


def main(_: list[str]) -> None:
    """Builds and measures the index, writes its folder, says what it is."""
    from vmr.retrieval import index, query  # seconds of imports, after the flags

    collection = query.open_catalogue(_EMBEDDINGS.value, _SIDE.value)
    queries = query.open_queries(_QUERIES.value, collection, query.other_side(collection.side))
    output = pathlib.Path(_OUTPUT.value)
    print(index.describe(index.build_index(collection, _KIND.value, output, queries)))
    print(f"written to {output}")


if __name__ == "__main__":
    run(main)
