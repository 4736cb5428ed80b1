"""What the norms ask of their arrays."""

NAMES = ("x", "gamma", "beta")


def refuse_empty(function, x):
    """N = 0 has empty results; samples without values have no statistics."""
    if 0 in x.shape[1:]:
        raise ValueError(f"{function}: x has an empty dimension: its shape is {x.shape}")


def check_rank(function, x, ndim):
    """Before the running statistics are made to measure; the kernels' border checks all shapes again."""
    if x.ndim != ndim:
        axes = "2 dimensions (N, D)" if ndim == 2 else "4 dimensions (N, C, H, W)"
        raise ValueError(f"{function}: x must have {axes}, got shape {x.shape}")
