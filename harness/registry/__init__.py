"""The available methods: hooks, plugins, and their parameters as configuration."""
