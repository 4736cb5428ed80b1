"""Trained models in files: :func:`save_model`, :func:`load_model`; :func:`load` reads a file of any kind."""

from cnnlib.saved_model.loading import Arrays, load
from cnnlib.saved_model.model_file import is_saved_model, load_model, save_model

__all__ = ["Arrays", "is_saved_model", "load", "load_model", "save_model"]
