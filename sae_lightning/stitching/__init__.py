"""SAE stitching: which latents of a larger SAE does a smaller one lack? (Leask et al. 2025, arXiv 2502.04878)."""
