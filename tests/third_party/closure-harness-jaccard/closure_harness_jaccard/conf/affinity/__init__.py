"""Presets: affinity=jaccard_strict."""
