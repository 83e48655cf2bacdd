"""Answers of a trained model: items of any origin embedded, indexed, searched and looked at."""
