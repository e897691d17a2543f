"""The small classifier that comes with the harness: its module, its training, its weights."""
