"""Copies of records in MLflow."""
