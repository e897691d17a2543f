"""Configuration files; Hydra finds them as `pkg://harness_conf`."""
