"""Models to train with :class:`cnnlib.solver.Solver`.

A model is any object with

- ``params``: a dict of name -> array, and
- ``loss(X, y=None)``: scores (N, num_classes) without labels (test mode), ``(loss, grads)`` with them
  (training mode), ``grads`` being a dict with the keys and shapes of ``params``.

A model may have further attributes that the Solver knows. Two hold state beyond the parameters, which it
keeps in its snapshots and checkpoints:

- ``bn_params``: a list (or dict) of batch-norm parameter dicts. The arrays in them (``running_mean``,
  ``running_var``) belong to the weights: they are saved, restored and kept as "best" together with these.
- ``rng``: a ``np.random.Generator`` or ``np.random.RandomState`` that the model draws from while it trains.
  None: ``np.random``, and during a seeded run the stream that the Solver then puts there.

The library's own models, and networks from files of other programs, have the same verbs: ``net(X)`` gives
scores in test mode, ``net.predict(X)`` labels, masks or numbers, ``net.predict_proba(X)`` probabilities,
``net.loss(X, y)`` the loss and the gradients; ``net.save(path)`` writes all of it, for :func:`cnnlib.load`,
and ``net.export(path)`` what other programs read. A file keeps ``arguments``, what the model was built with,
and, where they are known, ``preprocess``, ``classes`` and ``loss_name``.

One it sets: ``label_smoothing`` (0 .. 1), if the run asks for it. Two let a model begin otherwise:

- ``frozen``: names of parameters that are not trained; ``loss`` need not give their gradients.
- ``initialize(X)``: called with the training images before the training, to set the weights that depend on
  them and have not been set yet.
"""

from cnnlib.graph.graph import Graph, Node
from cnnlib.models.convnet import ConvNet
from cnnlib.models.fully_connected import FullyConnectedNet
from cnnlib.models.graph_net import GraphNet
from cnnlib.models.losses import WeightedLosses
from cnnlib.models.spec.reading import NAMED_SPECS
from cnnlib.models.three_layer import ThreeLayerConvNet

__all__ = ["NAMED_SPECS", "ConvNet", "FullyConnectedNet", "Graph", "GraphNet", "Node", "ThreeLayerConvNet"]
__all__ += ["WeightedLosses"]
