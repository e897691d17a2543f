"""Selectors: they select the groups that get a closure test."""
