"""``sae explain``: what is known of one latent of a finished run."""
