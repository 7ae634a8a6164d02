"""``sae report``: run folders become one HTML page that opens from disk."""
