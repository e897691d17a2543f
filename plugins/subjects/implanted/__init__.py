"""Implanted circuits: the plugin, the weights, and the script that trains and verifies them."""

from harness_plugins.subjects.implanted.subject import Implanted, harness_subjects

__all__ = ["Implanted", "harness_subjects"]
