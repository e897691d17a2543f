"""Transforms: activity to activity, before affinities are estimated."""
