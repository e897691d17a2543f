"""Metrics: what ablation damages, and which way damage points."""
