"""Experiments: experiment=jaccard."""
