// Sums and products of values, and values joined.
#include <numeric>

#include "bound_program.hpp"

namespace cnnlib {
namespace {

// b is as large as a: whole(a, b, out, n); or has a value for each of its `planes`: broadcast(a, b, out,
// planes, elements of a plane).
template <class T, class Whole, class Broadcast>
void pairs_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes,
                const Whole& whole, const Broadcast& broadcast) {
  const Index size = p.size_of(output);
  p.reads_and_writes(a, {size}, output, {size});
  const double work = double(size) / 4;
  if (p.size_of(b) == size)
    return p.add_step(name, work, [=](const Frame<T>& f) {
      whole(f.read(a), f.read(b), f.write(output), size * f.images);
    });
  p.reads(b, {planes});
  require(size % planes == 0, "prepare: planes that do not divide their value");
  p.add_step(name, work, [=](const Frame<T>& f) {
    broadcast(f.read(a), f.read(b), f.write(output), planes * f.images, size / planes);
  });
}

template <class T>
void sum_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes,
              bool relu) {
  const Kernels<T>& k = p.kernels();
  const auto broadcast = [&k, relu](const T* x, const T* y, T* out, Index n, Index S) {
    k.broadcast_add(x, y, out, n, S);
    if (relu) k.relu_forward(out, out, n * S);
  };
  pairs_step(p, name, a, b, output, planes, relu ? k.add_relu : k.add, broadcast);
}

template <class T>
void product_step(BoundProgram<T>& p, const std::string& name, int a, int b, int output, Index planes) {
  pairs_step(p, name, a, b, output, planes, p.kernels().multiply, p.kernels().broadcast_multiply);
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
  const auto name = py::arg("name"), output = py::arg("output");
  const auto a = py::arg("a"), b = py::arg("b"), planes = py::arg("planes");
  program.def("sum", &sum_step<T>, name, a, b, output, planes, py::arg("relu"))
      .def("product", &product_step<T>, name, a, b, output, planes)
      .def("concat", &concat_step<T>, name, py::arg("inputs"), output);
}

template void bind_elementwise_steps(py::class_<BoundProgram<float>>&);
template void bind_elementwise_steps(py::class_<BoundProgram<double>>&);

}  // namespace cnnlib
