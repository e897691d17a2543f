"""Partitioners: an affinity to groups of units."""
