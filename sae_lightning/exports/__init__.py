"""``sae export``: an SAE in the files of another library, and what its latents do on text in those of others."""
