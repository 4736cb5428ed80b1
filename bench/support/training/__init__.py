"""Training steps: cnnlib's alone, beside PyTorch's, and their profiles."""
