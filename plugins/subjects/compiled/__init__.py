"""Compiled programs: the plugin, the weights, and the script that compiled them."""

from harness_plugins.subjects.compiled.subject import CompiledProgram, harness_subjects

__all__ = ["CompiledProgram", "harness_subjects"]
