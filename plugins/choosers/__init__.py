"""Choosers: which of several partitions candidates are taken from."""
