"""Claims of the two circuit papers (Xu 2026a, b), each judged by the records of a workspace."""
