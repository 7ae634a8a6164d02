"""Everything that is known of one latent."""
