"""Subjects: models that can be recorded and ablated."""
