"""Decompositions that come with the harness, and how subcomponents become the units of a subject."""
