"""Text and labels that a dataset stores with its videos, for people to read."""

from dataclasses import dataclass

from vmr.data.dataset import Dataset
from vmr.data.decoding import parse_stored
from vmr.data.label_classes import stored_labels
from vmr.data.quiet_tensorflow import tf
from vmr.data.tfrecords import as_graph, naming_faults, records_in_order

_BATCH = 1024


@dataclass(frozen=True)
class Annotations:
    """Annotations of the N videos of a split, in stored order.

    Attributes:
      texts: N strings; empty where the text is absent, or stored as embeddings.
      labels: N tuples of label indices; empty where the source gives none.
    """

    texts: list[str]
    labels: list[tuple[int, ...]]


def annotations(dataset: Dataset, split: str) -> Annotations:
    """Reads the annotations of a split; its features are not decoded.

    Raises:
      UserError: no such split, or a record is corrupt.
    """
    schema = dataset.schema
    dataset.examples(split)  # raises where it is missing
    readable = schema.text is not None and not schema.text.embedded

    @as_graph
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = parse_stored(serialized, schema)
        found = {"text": fields["text"] if readable else tf.zeros_like(fields["video_id"])}
        return found | ({"labels": stored_labels(serialized)} if schema.has_labels else {})

    shards = dataset.shards[split]
    batches = records_in_order(shards).batch(_BATCH).map(parse)
    texts: list[str] = []
    labels: list[tuple[int, ...]] = []
    for batch in naming_faults(batches, shards, schema):
        texts += [text.decode(errors="replace") for text in batch["text"]]
        rows = batch["labels"].tolist() if "labels" in batch else [[]] * len(batch["text"])
        # Padding is -1, and so is no label.
        labels += [tuple(label for label in row if label >= 0) for row in rows]
    return Annotations(texts, labels)
