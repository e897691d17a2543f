"""One cell: its identity, the inputs that it shares with other cells, and its result."""
