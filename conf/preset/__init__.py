"""Presets: how candidates are judged, as somebody else did."""
