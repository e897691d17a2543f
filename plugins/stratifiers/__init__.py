"""Stratifiers: strata of the examples, each proposed on by itself."""
