"""Was an SAE read right? Its weights by themselves, and on activations beside what its file states."""
