"""Transforms of activity: what is taken out of it before affinities are estimated."""
