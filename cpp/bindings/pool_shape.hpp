// The shape of pools and of upsampling from an array and the parameters, checked; errors name `function`. The
// planes are those of one image.
#pragma once

#include <array>

#include "arrays.hpp"

namespace cnnlib {

// PH, PW, stride_h, stride_w, pad_top, pad_bottom, pad_left, pad_right, dilation_h, dilation_w
using PoolGeometry = std::array<Index, 10>;

PoolShape pool_shape(Text function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
                     bool count_include_pad);
PoolShape adaptive_shape(Text function, const py::array& x, const std::array<Index, 2>& size);
UpsampleShape upsample_shape(Text function, const py::array& x, const std::array<Index, 2>& scale,
                             bool bilinear, bool align_corners);

}  // namespace cnnlib
