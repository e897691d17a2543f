"""MLflow shows what records hold."""
