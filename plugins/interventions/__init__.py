"""Interventions: what an ablated unit writes instead."""
