"""A subject whose units have causal roles that are known by construction."""

from harness_plugins.subjects.planted.subject import Planted, harness_subjects

__all__ = ["Planted", "harness_subjects"]
