"""What the results on SmolLM2 are made from: text, variants, and a look at single tokens."""
