"""The contract suite that every plugin, built in or not, is held to."""
