// The shape of an inverted residual from the arrays of its three convolutions, checked.
#pragma once

#include <array>
#include <tuple>

#include "../conv/conv_shape.hpp"

namespace cnnlib {

template <class T>
using InvertedResidualLayer = std::tuple<Array<T>, MaybeArray<T>, bool, double>;  // w, b, relu, most

// `like` is an array of no images of the input's size, conv_param the depthwise convolution's.
template <class T>
InvertedResidualShape inverted_residual_shape(const Array<T>& like,
                                              const std::array<InvertedResidualLayer<T>, 3>& layers,
                                              const py::object& conv_param) {
  const Array<T>&expand = std::get<0>(layers[0]), &depthwise = std::get<0>(layers[1]);
  const Array<T>& project = std::get<0>(layers[2]);
  for (const Array<T>* array : {&like, &expand, &depthwise, &project})
    require(array->ndim() == 4, [&] { return "prepare: 4 dimensions expected, got shape " + text(*array); });
  const Array<T> hidden = new_array<T>("prepare", {0, depthwise.shape(0), like.shape(2), like.shape(3)});
  InvertedResidualShape s{1, like.shape(1), project.shape(0),
                          conv_shape("prepare", hidden, depthwise, conv_param)};
  s.depthwise.N = 1;
  const ConvShape& d = s.depthwise;
  require(d.groups == d.C && d.F == d.C,
          [&] { return "prepare: w must have one filter for each channel, got shape " + text(depthwise); });
  require_shape("prepare", "w", expand, {d.C, s.C, 1, 1});
  require_shape("prepare", "w", project, {s.F, d.C, 1, 1});
  const Index outputs[] = {d.C, d.C, s.F};
  for (std::size_t i = 0; i < 3; ++i)
    if (const MaybeArray<T>& b = std::get<1>(layers[i])) require_shape("prepare", "b", *b, {outputs[i]});
  return s;
}

}  // namespace cnnlib
