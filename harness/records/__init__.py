"""The complete result of a cell on disk, and the folder that holds them."""
