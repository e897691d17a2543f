"""Interventions: what replaces the output of an ablated unit."""
