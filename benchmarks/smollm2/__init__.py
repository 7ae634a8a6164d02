"""What the results on SmolLM2 are made from, and the order of their runs."""
