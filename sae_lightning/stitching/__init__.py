"""Are the latents of an SAE complete, and are they atomic? (Leask et al. 2025, arXiv 2502.04878)."""
