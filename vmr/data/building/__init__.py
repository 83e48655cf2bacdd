"""Building: writes a source as a TFDS folder, whole or not at all, and validates it."""
