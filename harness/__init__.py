"""Closure Harness: cheap statistics propose circuits, ablation disposes.

The core knows stages, cells, records and statistics; it knows no method by name. Methods live in plugins.
"""

__version__ = "0.1.0"
