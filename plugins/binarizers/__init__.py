"""Binarizers: activity to spins."""
