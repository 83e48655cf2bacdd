"""Building: a source written as a TFDS folder, whole or not at all, and validated."""
