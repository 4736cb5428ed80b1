#include "conv_shape.hpp"

#include <atomic>

namespace cnnlib {
namespace {

// What 'auto' stands for in the whole process, wherever it fits.
std::atomic<Method> process_algorithm{Method::automatic};

// Steps and kernel size; w is (F, C / groups, KH, KW) seen from the convolution.
ConvShape common_shape(Text function, const Floats& x, const Floats& w, ConvParam& param) {
  const auto four = [&](const Floats& a, const char* name, const char* axes) {
    require(a.ndim() == 4, function, ": ", name, " must have 4 dimensions ", axes, ", got shape ", a);
    for (int i = name[0] == 'x' ? 1 : 0; i < 4; ++i)
      require(a.shape(i) >= 1, function, ": ", name, " has an empty dimension: its shape is ", a);
  };
  four(x, "x", "(N, C, H, W)");
  four(w, "w", "(F, C / groups, KH, KW)");
  ConvShape s{};
  s.N = x.shape(0);
  s.KH = w.shape(2);
  s.KW = w.shape(3);
  settle_steps(function, param, {x.shape(2), x.shape(3)}, {s.KH, s.KW});
  s.stride_h = param.stride[0];
  s.stride_w = param.stride[1];
  s.pad_top = param.pad[0];
  s.pad_left = param.pad[2];
  s.dilation_h = param.dilation[0];
  s.dilation_w = param.dilation[1];
  s.groups = param.groups;
  return s;
}

void check_groups(Text function, const char* what, Index channels, Index groups) {
  require(channels % groups == 0, function, ": groups must divide the number of ", what, ": ", channels,
          " by ", groups);
}

// Whether a method computes any pass of a convolution.
bool fits_any_pass(bool single, const ConvRequest& r, Method method) {
  const auto fits = AnyKernels(single)([](const auto& k) { return k.conv_fits; });
  return fits(r, Pass::forward, method) || fits(r, Pass::input_gradient, method) ||
         fits(r, Pass::weight_gradient, method);
}

// A method that the caller names has to fit; the process's own wish holds where it fits. Of an empty batch
// there is nothing to compute.
Method settled_method(Text function, bool single, const ConvShape& s, Method wish) {
  const bool named = wish != Method::automatic;
  if (!named) wish = process_algorithm;
  if (wish == Method::automatic || wish == Method::direct) return wish;
  ConvRequest one{s, wish};
  one.shape.N = std::max<Index>(s.N, 1);
  if (fits_any_pass(single, one, wish)) return wish;
  require(
      !named, function, ": algorithm '", name_of(wish), "' ",
      wish == Method::winograd
          ? "needs stride 1 and a kernel other than 1x1, 1x2 and 2x1, or stride 2, a kernel of 3x3, 4x4 or "
            "5x5 and no dilation, and pads less than the kernel"
          : "does not fit this convolution, or is not among the methods of this instruction set");
  return Method::automatic;
}

// The output size of one axis.
Index windows(Text function, const char* axis, Index size, Index K, Index stride, Index pads,
              Index dilation) {
  const Index window = window_size(K, dilation);
  require(window <= size + pads, function, ": the window of w is larger than the padded input along ", axis,
          ": ", window, " > ", size + pads);
  return 1 + (size + pads - window) / stride;
}

// One axis with windows as small as give the same results. From a dilation of size + extent on, where windows
// begin at `extent` places, at most one tap k meets the image: it stays where it is, and its neighbours come
// as near as they can without reading anything but padding.
void draw_taps_near(Index size, Index outputs, Index K, Index stride, Index& dilation, Index& pad) {
  const Index extent = (outputs - 1) * stride + 1, enough = size + extent;
  if (dilation <= enough) return;
  const Index k = std::min(K - 1, (size - 1 + pad) / dilation);  // the last one before the image's end
  pad = k * enough - std::max(k * dilation - pad, -extent);
  dilation = enough;
}

// Once all sizes are known.
ConvRequest settled(Text function, bool single, ConvShape s, Method wish) {
  draw_taps_near(s.H, s.OH, s.KH, s.stride_h, s.dilation_h, s.pad_top);
  draw_taps_near(s.W, s.OW, s.KW, s.stride_w, s.dilation_w, s.pad_left);
  return {s, settled_method(function, single, s, wish)};
}

void set_conv_algorithm(const py::object& name) {
  process_algorithm = algorithm_named("set_conv_algorithm", "name", name);
}

}  // namespace

ConvRequest conv_request(Text function, const Floats& x, const Floats& w, const py::object& conv_param) {
  ConvParam param = parse_conv_param(function, conv_param);
  ConvShape s = common_shape(function, x, w, param);
  s.C = x.shape(1);
  s.H = x.shape(2);
  s.W = x.shape(3);
  s.F = w.shape(0);
  check_groups(function, "input channels", s.C, s.groups);
  check_groups(function, "filters", s.F, s.groups);
  require(w.shape(1) * s.groups == s.C, function, ": x and w disagree on the channels: x is ", x, ", w is ",
          w, ", groups is ", s.groups, " (w needs C / groups = ", s.C / s.groups, ")");
  s.OH = windows(function, "H", s.H, s.KH, s.stride_h, param.pad[0] + param.pad[1], s.dilation_h);
  s.OW = windows(function, "W", s.W, s.KW, s.stride_w, param.pad[2] + param.pad[3], s.dilation_w);
  result_bytes(function, {std::max<Index>(s.N, 1), s.F, s.OH, s.OW}, x.itemsize());
  return settled(function, x.single(), s, param.algorithm);
}

ConvRequest conv_transpose_request(Text function, const Floats& x, const Floats& w,
                                   const py::object& conv_param) {
  ConvParam param = parse_conv_param(function, conv_param, Direction::transposed);
  ConvShape s = common_shape(function, x, w, param);
  s.F = x.shape(1);
  s.OH = x.shape(2);
  s.OW = x.shape(3);
  check_groups(function, "input channels", s.F, s.groups);
  require(w.shape(0) == s.F, function, ": x and w disagree on the channels: x is ", x, ", w is ", w,
          " (w is (C, F / groups, KH, KW))");
  s.C = w.shape(1) * s.groups;
  const auto size = [&](const char* axis, Index n, Index K, Index stride, Index pads, Index dilation,
                        Index extra) {
    require(extra >= 0 && extra < std::max(stride, dilation), function,
            ": output_pad must be at least 0 and smaller than stride or dilation, got ", extra, " along ",
            axis);
    require(n < largest / stride && window_size(K, dilation) <= largest, function,
            ": the result is too large along ", axis);
    const Index out = (n - 1) * stride - pads + window_size(K, dilation) + extra;
    require(out >= 1, function, ": pad leaves no output along ", axis, ": its size would be ", out);
    return out;
  };
  s.H = size("H", s.OH, s.KH, s.stride_h, param.pad[0] + param.pad[1], s.dilation_h, param.output_pad[0]);
  s.W = size("W", s.OW, s.KW, s.stride_w, param.pad[2] + param.pad[3], s.dilation_w, param.output_pad[1]);
  result_bytes(function, {std::max<Index>(s.N, 1), s.C, s.H, s.W}, x.itemsize());
  return settled(function, x.single(), s, param.algorithm);
}

void bind_conv_algorithm(py::module_& m) {
  py::list names;
  for (const char* name : method_names) names.append(name);
  m.attr("conv_methods") = py::tuple(names);
  m.def("get_conv_algorithm", [] { return name_of(process_algorithm); });
  def(m, "set_conv_algorithm(name)", &set_conv_algorithm);
}

}  // namespace cnnlib
