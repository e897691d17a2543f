"""A toy mixture of experts with features in superposition: the plugin, its geometry, its training."""

from harness_plugins.subjects.toy_moe.subject import ToyMoE, harness_subjects

__all__ = ["ToyMoE", "harness_subjects"]
