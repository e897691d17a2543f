"""Presets of signals."""
