"""Help that knows nothing of circuits: errors, digests, caches, seeds, threads."""
