"""Batches: examples with a query position, a target and anchors."""
