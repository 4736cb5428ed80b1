"""Pictures of networks and their training; they need matplotlib (``pip install cnnlib[plots]``).

Each function draws into the axes or the figure that it is given, or else into a new one of
``matplotlib.pyplot``, and returns it; nothing is shown or saved. Matplotlib is imported when one is called.
"""

from cnnlib.plots.attribution import plot_adversarial, plot_attributions, plot_patches
from cnnlib.plots.classification import plot_confusion_history, plot_confusion_matrix, plot_mistakes
from cnnlib.plots.history import plot_accuracy, plot_loss, plot_metric, plot_profile
from cnnlib.plots.images import image_grid, plot_filters

__all__ = ["image_grid", "plot_accuracy", "plot_adversarial", "plot_attributions", "plot_confusion_history"]
__all__ += ["plot_confusion_matrix", "plot_filters", "plot_loss", "plot_metric", "plot_mistakes"]
__all__ += ["plot_patches", "plot_profile"]
