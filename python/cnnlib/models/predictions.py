"""What scores say: labels, masks, numbers and probabilities, by the loss that a network is trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np

from cnnlib._system.memory_use import MemoryUse
from cnnlib._typing import Array, ArrayLike, Outputs
from cnnlib.layers import sigmoid_forward, softmax
from cnnlib.models.losses import OF_CLASSES, OF_LOGITS, OF_NUMBERS, LossName
from cnnlib.models.spec.reading import COLOURS

Kind: TypeAlias = Literal["classes", "logits", "numbers"]


class Predicts:
    """`predict` and `predict_proba` of what gives scores when it is called: models and Predictors.

    Attributes
    ----------
    head : str
        What the network ends in: 'classes', 'values' (numbers), or 'pixels'.
    classes : tuple of str or None
        The names of the classes, where they are known.
    outputs : tuple of str
        The names of several outputs; empty for a network of one.
    loss_name : str, dict or None
        The loss by which the network was last trained, by its name without ending ('softmax'); of several
        outputs a dict. None where it is not known, or a function of the user's own.
    """

    head: str = "classes"
    classes: tuple[str, ...] | None = None
    outputs: tuple[str, ...] = ()
    loss_name: LossName = None

    def __call__(self, X: ArrayLike, /) -> Outputs:
        """Compute the scores of samples."""
        raise NotImplementedError

    @property
    def gives_probabilities(self) -> bool:
        """Whether a softmax ends the network, as networks from other programs may have one."""
        raise NotImplementedError

    def memory(self) -> MemoryUse:
        """
        Say what the network holds in memory between calls, and what the process keeps for all.

        Returns
        -------
        MemoryUse
            Bytes: `arrays` of parameters and statistics, `packed` copies of weights; the `sizes` of samples
            that it is compiled for, `working` memory of a sample; buffers that the process has in use and
            keeps. Its `str` is a table.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> net = FullyConnectedNet([3], 4, 2, seed=0)
        >>> net(np.zeros((5, 4))).shape, net.memory().arrays, net.memory().sizes
        ((5, 2), 92, ((4,),))
        """
        raise NotImplementedError

    def predict(self, X: ArrayLike) -> Outputs:
        """
        Predict labels, masks or numbers, as the loss has it with which the network was trained.

        Parameters
        ----------
        X : array (N, ...)
            Samples as a call takes them.

        Returns
        -------
        array
            The class of the highest score, (N,) integers, or (N, H, W) where each pixel has scores. For the
            losses 'bce' and 'dice', 1 where a logit is above 0, else 0, in the shape of the scores. For
            losses of numbers ('mse', 'l1', 'huber') the scores themselves. Where the loss is not known, a
            network's `head` decides, and a single score is a number. Of several outputs a dict by their
            names.

        Raises
        ------
        ValueError
            For samples that the network does not take; for several outputs whose losses are not known.

        Examples
        --------
        >>> from cnnlib.models import FullyConnectedNet
        >>> net = FullyConnectedNet([3], 4, 2, seed=0)
        >>> net.predict(np.zeros((3, 4))), net.predict_proba(np.zeros((1, 4)))
        (array([0, 0, 0]), array([[0.5, 0.5]], dtype=float32))
        """
        return self._of_outputs("predict", X, self._predicted)

    def predict_proba(self, X: ArrayLike) -> Outputs:
        """
        Compute the probabilities of the classes.

        Returns
        -------
        array of the shape of the scores
            Their softmax over axis 1, or what a softmax at the network's end gives; for the losses 'bce' and
            'dice' the sigmoid of each logit. Of several outputs a dict by their names.

        Raises
        ------
        ValueError
            As :meth:`predict`, and for networks without probabilities: of numbers or colours, and those
            trained by the SVM's loss.
        """
        return self._of_outputs("predict_proba", X, self._probabilities)

    def _of_outputs(
        self, verb: str, X: ArrayLike, answer: Callable[[str, Array, str | None], Array]
    ) -> Outputs:
        """What a function makes of each output's scores, by the name of its loss."""
        where = f"{type(self).__name__}.{verb}"
        if not self.outputs:
            assert not isinstance(self.loss_name, dict)  # which is of several outputs
            return answer(where, self(X), self.loss_name)
        losses = self.loss_name if isinstance(self.loss_name, dict) else {}
        unknown = [name for name in self.outputs if losses.get(name) is None]
        if unknown:
            raise ValueError(
                f"{where}: the losses of the outputs {', '.join(unknown)} are not known, so neither is what "
                "they say; call the network itself for their scores"
            )
        scores: Any = self(X)
        return {name: answer(f"{where}: {name}", scores[name], losses[name]) for name in self.outputs}

    def _kind(self, scores: Array, loss: str | None) -> Kind:
        if loss in OF_NUMBERS:
            return "numbers"
        if loss in OF_LOGITS:
            return "logits"
        colours = self.head == "pixels" and tuple(self.classes or ()) == COLOURS
        if loss not in OF_CLASSES and (self.head == "values" or colours or scores.shape[1] == 1):
            return "numbers"
        return "classes"

    def _predicted(self, where: str, scores: Array, loss: str | None) -> Any:
        kind = self._kind(scores, loss)
        if kind == "classes":
            return scores.argmax(axis=1)
        return scores if kind == "numbers" else (scores > 0).astype(np.intp)

    def _probabilities(self, where: str, scores: Array, loss: str | None) -> Array:
        kind = self._kind(scores, loss)
        if kind == "numbers":
            raise ValueError(f"{where}: the network gives numbers, which have no probabilities; use predict")
        if loss == "svm":
            raise ValueError(f"{where}: scores of the svm loss tell no probabilities; use predict")
        if kind == "logits":
            return sigmoid_forward(scores)[0]
        return scores if self.gives_probabilities else softmax(scores)
