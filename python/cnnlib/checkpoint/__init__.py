"""The checkpoint file: arrays and a state that ``np.load`` reads without pickle."""

from cnnlib.checkpoint.npz import RESERVED_PREFIX, load_checkpoint, save_checkpoint

__all__ = ["RESERVED_PREFIX", "load_checkpoint", "save_checkpoint"]
