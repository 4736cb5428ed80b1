// Steps that keep the size of their values, and the concatenation of some.
#include <numeric>

#include "../activation_names.hpp"
#include "steps.hpp"

namespace cnnlib {
namespace {

// A step of scalar operations `per_element`; kernel(x, out, n) takes each of n elements by itself.
template <class T, class Kernel>
void elements_step(BoundProgram<T>& p, const std::string& name, double per_element, int input, int output,
                   const Kernel& kernel) {
  const Index size = p.size_of(output);
  p.reads_and_writes(input, {size}, output, {size});
  p.add_step(name, per_element * double(size),
             [=](const Frame<T>& f) { kernel(f.read(input), f.write(output), size * f.images); });
}

template <class T>
void relu_step(BoundProgram<T>& p, const std::string& name, int input, int output) {
  elements_step(p, name, 0.25, input, output, p.kernels().relu_forward);
}

template <class T>
void leaky_relu_step(BoundProgram<T>& p, const std::string& name, int input, int output, double alpha) {
  const Kernels<T>& k = p.kernels();
  elements_step(p, name, 0.25, input, output,
                [&k, alpha](const T* x, T* out, Index n) { k.leaky_relu_forward(x, out, T(alpha), n); });
}

// alpha is elu's.
template <class T>
void activation_step(BoundProgram<T>& p, const std::string& name, int input, int output,
                     const std::string& kind, double alpha) {
  const Kernels<T>& k = p.kernels();
  const Activation named = activation_named("prepare", kind);
  elements_step(p, name, 1, input, output, [&k, named, alpha](const T* x, T* out, Index n) {
    k.activation_forward(named, x, out, nullptr, T(alpha), n);
  });
}

// Over the axis of C of images (C, S).
template <class T>
void softmax_step(BoundProgram<T>& p, const std::string& name, int input, int output, Index C, Index S) {
  p.reads_and_writes(input, {C, S}, output, {C, S});
  const Kernels<T>& k = p.kernels();
  p.add_step(name, double(C * S), [=, &k](const Frame<T>& f) {
    k.softmax_forward(f.read(input), f.write(output), nullptr, f.images, C, S);
  });
}

// b is as large as a: whole(a, b, out, n); or has a value for each of its `planes`: spread(a, b, out, planes,
// elements of a plane).
template <class T, class Whole, class Spread>
void pairs_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes,
                const Whole& whole, const Spread& spread) {
  const Index size = p.size_of(output);
  p.reads_and_writes(a, {size}, output, {size});
  const double work = double(size) / 4;
  if (p.size_of(b) == size)
    return p.add_step(name, work, [=](const Frame<T>& f) {
      whole(f.read(a), f.read(b), f.write(output), size * f.images);
    });
  p.reads(b, {planes});
  require(size % planes == 0, [] { return "prepare: planes that do not divide their value"; });
  p.add_step(name, work, [=](const Frame<T>& f) {
    spread(f.read(a), f.read(b), f.write(output), planes * f.images, size / planes);
  });
}

template <class T>
void sum_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes,
              bool relu) {
  const Kernels<T>& k = p.kernels();
  const auto spread = [&k, relu](const T* x, const T* y, T* out, Index n, Index S) {
    k.spread_add(x, y, out, n, S);
    if (relu) k.relu_forward(out, out, n * S);
  };
  pairs_step(p, name, a, b, output, planes, relu ? k.add_relu : k.add, spread);
}

template <class T>
void product_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes) {
  pairs_step(p, name, a, b, output, planes, p.kernels().multiply, p.kernels().spread_multiply);
}

template <class T>
void concat_step(BoundProgram<T>& p, const std::string& name, const std::vector<int>& inputs, int output) {
  std::vector<Index> sizes;
  for (const int input : inputs) sizes.push_back(p.size_of(input));
  const Index size = p.size_of(output);
  for (std::size_t i = 0; i < inputs.size(); ++i) p.reads(inputs[i], {sizes[i]});
  p.writes(output, {std::accumulate(sizes.begin(), sizes.end(), Index{0})});
  p.add_step(name, double(size) / 4, [=](const Frame<T>& f) {
    for (Index n = 0; n < f.images; ++n) {
      T* to = f.write(output) + n * size;
      for (std::size_t i = 0; i < inputs.size(); ++i)
        to = std::copy_n(f.read(inputs[i]) + n * sizes[i], sizes[i], to);
    }
  });
}

}  // namespace

template <class T>
void bind_elementwise_steps(py::class_<BoundProgram<T>>& program) {
  const auto name = py::arg("name"), input = py::arg("input"), output = py::arg("output");
  const auto a = py::arg("a"), b = py::arg("b"), planes = py::arg("planes"), alpha = py::arg("alpha");
  program.def("relu", &relu_step<T>, name, input, output)
      .def("leaky_relu", &leaky_relu_step<T>, name, input, output, alpha)
      .def("activation", &activation_step<T>, name, input, output, py::arg("kind"), alpha)
      .def("softmax", &softmax_step<T>, name, input, output, py::arg("C"), py::arg("S"))
      .def("sum", &sum_step<T>, name, a, b, output, planes, py::arg("relu"))
      .def("product", &product_step<T>, name, a, b, output, planes)
      .def("concat", &concat_step<T>, name, py::arg("inputs"), output);
}

template void bind_elementwise_steps(py::class_<BoundProgram<float>>&);
template void bind_elementwise_steps(py::class_<BoundProgram<double>>&);

}  // namespace cnnlib
