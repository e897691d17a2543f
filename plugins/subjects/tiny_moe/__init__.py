"""A mixture of experts: its plugin, its weights, and the script that trained them."""

from harness_plugins.subjects.tiny_moe.subject import TinyMoE, harness_subjects

__all__ = ["TinyMoE", "harness_subjects"]
