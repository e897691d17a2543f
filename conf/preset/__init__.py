"""Presets: protocols by which candidates are tested."""
