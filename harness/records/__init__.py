"""The complete results of cells on disk, and the folder that holds them."""
