"""A subject whose units' causal roles are known by construction: the world, and the subject made of it."""

from harness_plugins.subjects.planted.subject import Planted, harness_subjects

__all__ = ["Planted", "harness_subjects"]
