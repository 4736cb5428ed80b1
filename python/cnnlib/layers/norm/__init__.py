"""Batch, layer, group and instance normalisation."""

from cnnlib.layers.norm.batch import (
    batchnorm_backward,
    batchnorm_backward_alt,
    batchnorm_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)
from cnnlib.layers.norm.pixels import spatial_layernorm_backward, spatial_layernorm_forward
from cnnlib.layers.norm.rows import (
    layernorm_backward,
    layernorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
    spatial_instancenorm_backward,
    spatial_instancenorm_forward,
)

__all__ = [
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "layernorm_backward",
    "layernorm_forward",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "spatial_instancenorm_backward",
    "spatial_instancenorm_forward",
    "spatial_layernorm_backward",
    "spatial_layernorm_forward",
]
