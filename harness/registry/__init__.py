"""Which methods there are: hooks, plugins, their parameters as configuration."""
