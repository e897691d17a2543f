"""The default subject: its plugin, its weights, and the script that trained them."""

from harness_plugins.subjects.tiny.subject import Tiny, harness_subjects

__all__ = ["Tiny", "harness_subjects"]
