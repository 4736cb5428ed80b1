// Networks prepared for inference: cnnlib.inference puts a program's steps together, one call each.
#include "activation_names.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
template <class T>
bool conv_adds(const Array<T>& like, const Array<T>& w, const py::object& conv_param) {
  return kernels<T>().conv_adds(plan_prepared(kernels<T>(), conv_shape("prepare", like, w, conv_param)));
}

}  // namespace

template <class T>
void bind_program(py::module_& m, const char* name) {
  using P = BoundProgram<T>;
  const auto input = py::arg("input"), output = py::arg("output"), step = py::arg("name");
  const auto like = py::arg("like").noconvert(), w = py::arg("w").noconvert();
  const auto b = py::arg("b").noconvert().none(true);
  m.def("conv_adds", &conv_adds<T>, like, w, py::arg("conv_param"));
  py::class_<P>(m, name)
      .def(py::init<const std::vector<std::tuple<int, Index, Index>>&, Index, Index, Index>(),
           py::arg("values"), py::arg("input_size"), py::arg("output_size"), py::arg("arena"))
      .def("conv", &P::conv, step, input, output, like, w, b, py::arg("conv_param"), py::arg("add"),
           py::arg("relu"), py::arg("most"))
      .def("inverted_residual", &P::inverted_residual, step, input, py::arg("other"), output, like,
           py::arg("layers"), py::arg("conv_param"))
      .def("conv_transpose", &P::conv_transpose, step, input, output, like, w, b, py::arg("conv_param"))
      .def("affine", &P::affine, step, input, output, w, b, py::arg("relu"))
      .def("max_pool", &P::max_pool, step, input, output, like, py::arg("geometry"), py::arg("ceil_mode"))
      .def("avg_pool", &P::avg_pool, step, input, output, like, py::arg("geometry"), py::arg("ceil_mode"),
           py::arg("count_include_pad"))
      .def("global_avg_pool", &P::global_avg_pool, step, input, output, py::arg("C"), py::arg("S"))
      .def("normalize", &P::normalize, step, input, output, py::arg("S"), py::arg("mean").noconvert(),
           py::arg("inv_std").noconvert(), py::arg("gamma").noconvert(), py::arg("beta").noconvert(),
           py::arg("relu"))
      .def("row_norm", &P::row_norm, step, input, output, py::arg("shape"), py::arg("eps"),
           py::arg("gamma").noconvert(), py::arg("beta").noconvert())
      .def("pixel_norm", &P::pixel_norm, step, input, output, py::arg("S"), py::arg("eps"),
           py::arg("gamma").noconvert(), py::arg("beta").noconvert())
      .def("sum", &P::sum, step, py::arg("a"), py::arg("b"), output, py::arg("planes"), py::arg("relu"))
      .def("product", &P::product, step, py::arg("a"), py::arg("b"), output, py::arg("planes"))
      .def("leaky_relu", &P::leaky_relu, step, input, output, py::arg("alpha"))
      .def("relu", &P::relu, step, input, output)
      .def(
          "activation",
          [](P& p, const std::string& name, int in, int out, const std::string& kind, double alpha) {
            p.activation(name, in, out, activation_named("prepare", kind), alpha);
          },
          step, input, output, py::arg("kind"), py::arg("alpha"))
      .def("softmax", &P::softmax, step, input, output, py::arg("C"), py::arg("S"))
      .def(
          "adaptive_pool",
          [](P& p, const std::string& name, int in, int out, const std::array<Index, 5>& s, bool maximum) {
            const AdaptivePoolShape shape{s[0], s[1], s[2], s[3], s[4]};
            maximum ? p.adaptive_max_pool(name, in, out, shape) : p.adaptive_avg_pool(name, in, out, shape);
          },
          step, input, output, py::arg("shape"), py::arg("maximum"))
      .def(
          "upsample",
          [](P& p, const std::string& name, int in, int out, const std::array<Index, 5>& s, bool bilinear,
             bool align_corners) {
            p.upsample(name, in, out, {s[0], s[1], s[2], s[3], s[4], align_corners}, bilinear);
          },
          step, input, output, py::arg("shape"), py::arg("bilinear"), py::arg("align_corners"))
      .def("concat", &P::concat, step, py::arg("inputs"), output)
      .def("run", &P::run, py::arg("x").noconvert(), py::arg("shape"))
      .def("run_bytes", &P::run_bytes, py::arg("x").noconvert(), py::arg("mean").noconvert(),
           py::arg("std").noconvert(), py::arg("shape"))
      .def("profile", &P::profile, py::arg("x").noconvert(), py::arg("shape"), py::arg("repeats"))
      .def_property_readonly("packed_bytes", &P::packed_bytes);
}

template void bind_program<float>(py::module_&, const char*);
template void bind_program<double>(py::module_&, const char*);

}  // namespace cnnlib
