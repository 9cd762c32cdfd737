"""Speed beside PyTorch: the same networks, the same numbers, the same threads, in one run."""
