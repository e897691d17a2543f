"""General tools that know nothing of circuits: errors, digests, caches, seeds, threads."""
