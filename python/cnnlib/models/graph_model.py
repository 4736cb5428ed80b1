"""What every model that is a graph of layers does: scores, loss and gradients."""

from __future__ import annotations

from collections.abc import Collection
from typing import overload

from cnnlib._params.random import set_mask_seed
from cnnlib._typing import Array, ArrayLike, Gradients, Params
from cnnlib.graph.graph import BATCH_NORMS, Graph
from cnnlib.models.common import Criterion, Model, add_l2, loss_of_scores, refuse_uninitialized, set_mode
from cnnlib.models.program import Program
from cnnlib.typing import BatchNormParam


class GraphModel(Model):
    """The base of the library's models.

    Attributes
    ----------
    params : dict
        The arrays that the graph's nodes name.
    bn_params : list of dict
        Of its batch norms.
    """

    params: Params
    bn_params: list[BatchNormParam]
    reg: float
    seed: int | None
    _first_mask = 0  # of the numbers by which dropout layers draw different masks

    def _build(self, graph: Graph, frozen: Collection[str] = ()) -> None:
        """Take the graph, whose steps train what is not frozen."""
        self._graph, self._program = graph, Program(type(self).__name__, graph, frozenset(frozen))
        self._dropout_params = [node.args[0] for node in graph if node.layer == "dropout"]
        norms = [node for node in graph if node.layer in BATCH_NORMS]
        # Batch norms that are frozen as a whole keep their running statistics in training, too.
        self._resting = [node.args[0] for node in norms if frozen and set(node.params) <= set(frozen)]

    def _draws(self) -> bool:
        """Whether :meth:`loss` takes random numbers from a stream; of a user's own loss it is not known."""
        own = getattr(self.loss, "__func__", None) is GraphModel.loss and self.criterion is None
        return not own or (bool(self._dropout_params) and self.seed is None)

    def graph(self) -> Graph:
        """The network's layers; its parameters are in `params`."""
        return self._graph

    @overload
    def loss(self, X: ArrayLike, y: None = None, loss: Criterion | None = None) -> Array: ...
    @overload
    def loss(self, X: ArrayLike, y: ArrayLike, loss: Criterion | None = None) -> tuple[float, Gradients]: ...
    def loss(
        self, X: ArrayLike, y: ArrayLike | None = None, loss: Criterion | None = None
    ) -> Array | tuple[float, Gradients]:
        """The output for samples X, or with targets y the loss and the gradients of the parameters.

        Labels (N,), or (N, H, W) of pixels, have the softmax loss and numbers of the scores' shape the mean
        squared error, unless `loss` or the model's `criterion` is another.

        A network with several outputs takes a target of each: a dict by their names, or a tuple in their
        order.

        Returns
        -------
        scores : ndarray (N, num_classes), or (N, num_classes, H, W) of pixels
            If y is None; nothing is dropped then, and batch norm uses its running statistics. No more is
            kept of what layers compute than later ones read. Several outputs: a dict of arrays by name.
        loss, grads : float, dict
            Otherwise; batch norm uses, and learns from, the batch's own statistics.
        """
        refuse_uninitialized(type(self).__name__, self)
        X = self._samples(X)
        train = y is not None
        set_mode(self.bn_params, train)
        set_mode(self._resting, False)
        set_mode(self._dropout_params, train)
        if not train:
            return self._program.scores(self.params, X)
        for layer, dropout_param in enumerate(self._dropout_params, start=self._first_mask):
            set_mask_seed(dropout_param, self, X, layer)
        scores, caches = self._program.forward(self.params, X)
        value, dscores = loss_of_scores(self, scores, y, loss)
        grads: Gradients = {}
        self._program.backward(dscores, caches, grads)
        return value + add_l2(self.params, grads, self.reg), grads

    def _samples(self, X: ArrayLike) -> Array:
        samples = self._values(X)
        self.check_samples(type(self).__name__, "X", samples.shape)
        return samples
