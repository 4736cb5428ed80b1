"""Models in files: :func:`load` reads them; models have ``save(path)`` and ``export(path)``."""

from cnnlib.saved_model.loading import Arrays, load

__all__ = ["Arrays", "load"]
