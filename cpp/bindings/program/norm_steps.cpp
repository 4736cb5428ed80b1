// Steps that normalize.
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// By the statistics (C,) of a batch norm over images (C, S).
void normalize_step(BoundProgram& p, const std::string& name, int input, int output, Index S,
                    const Array<double>& mean, const Array<double>& inv_std, const Floats& gamma,
                    const Floats& beta, bool relu) {
  const Index C = gamma.size();
  p.reads_and_writes(input, {C, S}, output, {C, S});
  require_shapes("prepare", {C}, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}, {"beta", beta}});
  const double *m = p.keep(mean), *i = p.keep(inv_std);
  const In g = p.keep(gamma), b = p.keep(beta);
  p.add_step(name, double(C) * double(S) / 4, [=](const auto& k, const Frame& f) {
    k.batchnorm_normalize(f.read(input), m, i, g, b, f.write(output), {f.images, C, S}, relu);
  });
}

void row_norm_step(BoundProgram& p, const std::string& name, int input, int output,
                   const std::array<Index, 5>& shape, double eps, const Floats& gamma, const Floats& beta) {
  const RowNormShape s = row_norm_shape("prepare", shape);
  p.reads_and_writes(input, {s.rows, s.channels, s.S}, output, {s.rows, s.channels, s.S});
  require_shapes("prepare", {s.C}, {{"gamma", gamma}, {"beta", beta}});
  const In g = p.keep(gamma), b = p.keep(beta);
  p.add_step(name, double(s.rows * s.channels) * double(s.S) / 2, [=](const auto& k, const Frame& f) {
    k.rownorm_forward(f.read(input), g, b, eps, f.write(output), nullptr, nullptr, of_images(s, f.images));
  });
}

}  // namespace

void bind_norm_steps(py::class_<BoundProgram>& program) {
  const auto name = py::arg("name"), input = py::arg("input"), output = py::arg("output");
  const auto gamma = fixed("gamma"), beta = fixed("beta"), eps = py::arg("eps");
  def(program, "normalize", &normalize_step, name, input, output, py::arg("S"), fixed("mean"),
      fixed("inv_std"), gamma, beta, py::arg("relu"));
  def(program, "row_norm", &row_norm_step, name, input, output, py::arg("shape"), eps, gamma, beta);
}

}  // namespace cnnlib
