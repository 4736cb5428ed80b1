"""Whether arrays hold samples that a network takes, and what to tell whoever brings others."""

from __future__ import annotations


def check_samples(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], why_fixed: str, name: str = "X"
) -> None:
    """Refuse an array of shape `came` unless it holds samples that a network takes.

    Those are samples of shape `input_dim`, or images of another height and width where nothing fixes these.

    Raises
    ------
    ValueError
        With the reason in `why_fixed` if height or width alone are wrong.
    """
    shape = came[1:]
    if shape == input_dim:
        return
    alike = len(input_dim) == len(shape) == 3 and shape[0] == input_dim[0]
    if alike and not why_fixed:
        return
    images = len(input_dim) == 3 and not why_fixed
    wanted = ", ".join(map(str, (input_dim[0], "H", "W") if images else input_dim))
    reason = f"; the size is fixed by {why_fixed}" if alike else _advice(came, input_dim, not images, name)
    raise ValueError(f"{where}: {name} must have shape (N, {wanted}), got {came}{reason}")


def refuse_channels_last(
    where: str, came: tuple[int, ...], input_dim: tuple[int, ...], name: str = "X"
) -> None:
    """Refuse images (N, H, W, C) for a network that flattens images (N, C, H, W); nothing else."""
    shape = came[1:]
    if len(input_dim) == 3 and shape != input_dim and shape == (*input_dim[1:], input_dim[0]):
        check_samples(where, came, input_dim, "a flat layer", name)


def _advice(came, input_dim, fixed, name):
    """How an array of shape `came` could be meant."""
    shape = came[1:]
    if len(input_dim) != 3:
        return ""
    if came == input_dim:
        return f"; a batch of this one image is {name}[None]"
    if len(shape) == 3 and shape[2] == input_dim[0] and (not fixed or shape[:2] == input_dim[1:]):
        return f"; its channels come last, {name}.transpose(0, 3, 1, 2) puts them first"
    if input_dim[0] == 1 and len(shape) == 2 and (not fixed or shape == input_dim[1:]):
        return f"; the axis of its channel is missing, {name}[:, None] adds it"
    return ""
