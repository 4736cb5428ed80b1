// Steps that normalize.
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// By the statistics (C,) of a batch norm over images (C, S).
template <class T>
void normalize_step(BoundProgram<T>& p, const std::string& name, int input, int output, Index S,
                    const Array<double>& mean, const Array<double>& inv_std, const Array<T>& gamma,
                    const Array<T>& beta, bool relu) {
  const Index C = gamma.size();
  p.reads_and_writes(input, {C, S}, output, {C, S});
  require_channels("prepare", C, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}, {"beta", beta}});
  const double *m = p.keep(mean), *i = p.keep(inv_std);
  const T *g = p.keep(gamma), *b = p.keep(beta);
  const Kernels<T>& k = p.kernels();
  p.add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
    k.batchnorm_normalize(f.read(input), m, i, g, b, f.write(output), {f.images, C, S}, relu);
  });
}

template <class T>
void row_norm_step(BoundProgram<T>& p, const std::string& name, int input, int output,
                   const std::array<Index, 5>& shape, double eps, const Array<T>& gamma,
                   const Array<T>& beta) {
  const RowNormShape s = row_norm_shape("prepare", shape);
  p.reads_and_writes(input, {s.rows, s.channels, s.S}, output, {s.rows, s.channels, s.S});
  require_channels("prepare", s.C, {{"gamma", gamma}, {"beta", beta}});
  const T *g = p.keep(gamma), *b = p.keep(beta);
  const Kernels<T>& k = p.kernels();
  p.add_step(name, double(s.rows * s.channels) * double(s.S) / 2, [=, &k](const Frame<T>& f) {
    k.rownorm_forward(f.read(input), g, b, eps, f.write(output), nullptr, nullptr, of_images(s, f.images));
  });
}

}  // namespace

template <class T>
void bind_norm_steps(py::class_<BoundProgram<T>>& program) {
  const auto name = py::arg("name"), input = py::arg("input"), output = py::arg("output");
  const auto gamma = fixed("gamma"), beta = fixed("beta"), eps = py::arg("eps");
  program
      .def("normalize", &normalize_step<T>, name, input, output, py::arg("S"), fixed("mean"),
           fixed("inv_std"), gamma, beta, py::arg("relu"))
      .def("row_norm", &row_norm_step<T>, name, input, output, py::arg("shape"), eps, gamma, beta);
}

template void bind_norm_steps(py::class_<BoundProgram<float>>&);
template void bind_norm_steps(py::class_<BoundProgram<double>>&);

}  // namespace cnnlib
