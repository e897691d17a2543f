"""Selectors: which of the groups are put to the closure test."""
