"""The embedded default subject: its plugin, its weights, and the script that trained them."""
