"""Toy models whose mechanisms are known: the plugin, the weights, and the script that trained them."""

from harness_plugins.subjects.toy.subject import ToyModel, harness_subjects

__all__ = ["ToyModel", "harness_subjects"]
