"""Small decoders with depth routing: their weights, and the scripts that trained, measured and described them."""
