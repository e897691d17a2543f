"""The harness from Python: the calls, the objects they accept and return, and their progress in a notebook."""
