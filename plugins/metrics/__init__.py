"""Metrics: what ablation can damage, and the sign of damage."""
