// Networks prepared for inference: cnnlib.inference puts a program's steps together, one call each.
#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
bool conv_adds(const Floats& like, const Floats& w, const py::object& conv_param) {
  const ConvShape s = conv_shape("prepare", like, w, conv_param);
  return AnyKernels(w.single())([&](const auto& k) { return k.prepare_network_conv(s, Pass::forward).adds; });
}

}  // namespace

void bind_program(py::module_& m) {
  using P = BoundProgram;
  using Values = std::vector<std::tuple<int, Index, Index>>;
  def(m, "conv_adds(like, w, conv_param)", &conv_adds);
  py::class_<P> program(m, "Program");
  program
      .def(py::init<const py::dtype&, const Values&, Index, Index, Index>(),
           Signature("(dtype, values, input_size, output_size, arena)"))
      .def("run", &P::run, Signature("(x, shape)"))
      .def("run_bytes", &P::run_bytes, Signature("(x, mean, std, shape)"))
      .def("profile", &P::profile, Signature("(x, shape, repeats)"))
      .def_property_readonly("packed_bytes", &P::packed_bytes);
  bind_weighted_steps(program);
  bind_image_layers(program);
  bind_elementwise_steps(program);
  bind_byte_steps(program);
}

}  // namespace cnnlib
