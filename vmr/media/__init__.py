"""Media files decoded, and the features of their pictures and sound."""
