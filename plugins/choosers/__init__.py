"""Choosers: they choose the partition from which candidates are taken."""
