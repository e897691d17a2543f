"""Small models that retrieve a codeword: the plugin, the weights of several seeds, and the script that trained them."""

from harness_plugins.subjects.tiny_retrieval.subject import TinyRetrieval, harness_subjects

__all__ = ["TinyRetrieval", "harness_subjects"]
