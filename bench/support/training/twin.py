"""The PyTorch twin of a cnnlib.models.ConvNet spec."""

from __future__ import annotations

import copy

import numpy as np


def twin(torch, spec, input_dim, dropout=True):
    """Build the modules for a spec.

    Parameters
    ----------
    torch : module
    spec : list
        As for cnnlib.models.ConvNet, the classifier included.
    input_dim : (int, int, int)
    dropout : bool
        Whether to keep the dropout stages.

    Returns
    -------
    Twin

    Raises
    ------
    ValueError
        For a stage that has no twin here.
    """
    builder = _Builder(torch, dropout)
    module, explicit, _ = builder.sequence(copy.deepcopy(spec), torch.zeros(2, *input_dim))
    return Twin(torch, module.train(), explicit, builder.weighted, builder.norms)


class Twin:
    """A network in PyTorch.

    Attributes
    ----------
    module : torch.nn.Module
    spec : list
        What cnnlib has to build for the same network: with shortcuts spelled out, without dropout stages left
        out here, and with the same padding on both sides of an image. ('same' padding at stride 2 has it on
        one side only, which PyTorch would need another pass for.)
    """

    def __init__(self, torch, module, spec, weighted, norms):
        self.module, self.spec = module, spec
        self._torch, self._weighted, self._norms = torch, weighted, norms

    def load(self, params):
        """Take over cnnlib's parameters: W1 b1 ... and gamma1 beta1 ... in the order of the spec."""
        targets = {}
        for i, layer in enumerate(self._weighted, start=1):
            linear = isinstance(layer, self._torch.nn.Linear)
            targets[f"W{i}"] = layer.weight.data.T if linear else layer.weight.data
            if layer.bias is not None:
                targets[f"b{i}"] = layer.bias.data
        for i, layer in enumerate(self._norms, start=1):
            targets[f"gamma{i}"], targets[f"beta{i}"] = layer.weight.data, layer.bias.data
        if set(targets) != set(params):
            raise RuntimeError(f"the networks differ in {sorted(set(targets) ^ set(params))}")
        for name, target in targets.items():
            target.copy_(self._torch.from_numpy(np.ascontiguousarray(params[name])))


class _Builder:
    """Builds PyTorch's modules from a spec, letting an example pass through to learn the shapes.

    `weighted` and `norms` hold them in the order in which cnnlib numbers the parameters.
    """

    def __init__(self, torch, dropout):
        self.torch, self.nn, self.dropout_stays = torch, torch.nn, dropout
        self.weighted, self.norms = [], []

    def sequence(self, spec, x):
        """(module, the spec with everything explicit, the example's output)."""
        modules, explicit = [], []
        parsed = [(entry, None, {}) if isinstance(entry, str) else _split(entry) for entry in spec]
        for i, (kind, value, options) in enumerate(parsed):
            if kind == "dropout" and not self.dropout_stays:
                continue
            if kind in ("conv", "depthwise", "affine"):
                options.setdefault("bias", i + 1 == len(parsed) or parsed[i + 1][0] != "batchnorm")
            built = getattr(self, f"_{kind}", None)
            if built is None:
                raise ValueError(f"no PyTorch twin for the stage {kind!r}")
            parts, x = built(value, options, x)
            modules += parts
            explicit.append({kind: value, **options} if value is not None or options else kind)
        return self.nn.Sequential(*modules), explicit, x

    def _run(self, modules, x):
        with self.torch.no_grad():
            return modules, self.nn.Sequential(*modules).eval()(x)

    def _conv(self, F, options, x):
        size = options.setdefault("size", 3)
        options.setdefault("pad", size // 2)
        conv = self.nn.Conv2d(
            x.shape[1],
            F,
            size,
            options.get("stride", 1),
            options["pad"],
            options.get("dilation", 1),
            options.get("groups", 1),
            options["bias"],
        )
        self.weighted.append(conv)
        return self._run([conv], x)

    def _depthwise(self, size, options, x):
        C = x.shape[1]
        options.setdefault("pad", size // 2)
        inner = {"size": size, "groups": C, **options}
        return self._conv(C * inner.pop("multiplier", 1), inner, x)

    def _affine(self, M, options, x):
        flat = [self.nn.Flatten()] if x.ndim > 2 else []
        linear = self.nn.Linear(x[0].numel(), M, options["bias"])
        self.weighted.append(linear)
        return self._run([*flat, linear], x)

    def _batchnorm(self, value, options, x):
        norm = (self.nn.BatchNorm2d if x.ndim == 4 else self.nn.BatchNorm1d)(x.shape[1])
        self.norms.append(norm)
        return self._run([norm], x)

    def _relu(self, value, options, x):
        return self._run([self.nn.ReLU(inplace=True)], x)

    def _max_pool(self, size, options, x):
        return self._run([self.nn.MaxPool2d(size, **options)], x)

    def _global_avg_pool(self, value, options, x):
        return self._run([self.nn.AdaptiveAvgPool2d(1), self.nn.Flatten()], x)

    def _dropout(self, p, options, x):
        return self._run([self.nn.Dropout(p)], x)

    def _residual(self, body, options, x):
        inner, explicit, out = self.sequence(body, x)
        body[:] = explicit
        if "shortcut" not in options:
            stride = x.shape[2] // out.shape[2]
            projection = [{"conv": out.shape[1], "size": 1, "stride": stride}, "batchnorm"]
            options["shortcut"] = [] if out.shape == x.shape else projection
        shortcut, options["shortcut"], _ = self.sequence(options["shortcut"], x)
        return [_residual_class(self.nn)(inner, shortcut)], out


def _split(entry):
    options = dict(entry)
    kind = next(iter(options))
    return kind, options.pop(kind), options


def _residual_class(nn):
    class Residual(nn.Module):
        def __init__(self, body, shortcut):
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x):
            return self.body(x) + self.shortcut(x)

    return Residual
