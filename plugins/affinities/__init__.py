"""Affinities: how alike two units behave."""
