"""What cells will take, before they run: shapes of models, FLOPs of closure tests, seconds and bytes on a machine.

Outside what a cell's identity digests: a better estimate makes no record stale.
"""
