"""Recording and ablation inside Hugging Face models."""
