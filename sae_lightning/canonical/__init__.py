"""Are the latents of an SAE complete? ``sae stitch`` compares two sizes (Leask et al. 2025, arXiv 2502.04878)."""
