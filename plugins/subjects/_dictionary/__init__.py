"""Dictionaries of latents: how their files are read, and the one that comes with the harness."""
