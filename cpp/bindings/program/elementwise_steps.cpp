// Sums and products of values, and values joined.
#include <numeric>

#include "bound_program.hpp"

namespace cnnlib {
namespace {

// b is as large as a: whole(k, a, b, out, n); or has a value for each of its `planes`: broadcast(k, a, b,
// out, planes, elements of a plane).
template <class Whole, class Broadcast>
void pairs_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes,
                const Whole& whole, const Broadcast& broadcast) {
  const Index size = p.size_of(output);
  p.reads_and_writes(a, {size}, output, {size});
  const double work = double(size) / 4;
  if (p.size_of(b) == size)
    return p.add_step(name, work, [=](const auto& k, const Frame& f) {
      whole(k, f.read(a), f.read(b), f.write(output), size * f.images);
    });
  p.reads(b, {planes});
  require(size % planes == 0, "prepare: planes that do not divide their value");
  p.add_step(name, work, [=](const auto& k, const Frame& f) {
    broadcast(k, f.read(a), f.read(b), f.write(output), planes * f.images, size / planes);
  });
}

void sum_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes, bool relu) {
  pairs_step(
      p, name, a, b, output, planes,
      [=](const auto& k, In x, In y, Out out, Index n) { (relu ? k.add_relu : k.add)(x, y, out, n); },
      [=](const auto& k, In x, In y, Out out, Index n, Index S) {
        k.broadcast_add(x, y, out, n, S);
        if (relu) k.relu_forward(out, out, n * S);
      });
}

void product_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes) {
  pairs_step(
      p, name, a, b, output, planes,
      [](const auto& k, In x, In y, Out out, Index n) { k.multiply(x, y, out, n); },
      [](const auto& k, In x, In y, Out out, Index n, Index S) { k.broadcast_multiply(x, y, out, n, S); });
}

void concat_step(BoundProgram& p, const std::string& name, const std::vector<int>& inputs, int output) {
  std::vector<Index> sizes;
  for (const int input : inputs) sizes.push_back(p.size_of(input));
  const Index size = p.size_of(output);
  for (std::size_t i = 0; i < inputs.size(); ++i) p.reads(inputs[i], {sizes[i]});
  p.writes(output, {std::accumulate(sizes.begin(), sizes.end(), Index{0})});
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    Out to = f.write(output);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Index row = sizes[i] * f.item;
      copy_rows(f.read(inputs[i]), row, to, size * f.item, row, f.images);
      to = to + row;
    }
  });
}

}  // namespace

void bind_elementwise_steps(py::class_<BoundProgram>& program) {
  const auto name = py::arg("name"), output = py::arg("output");
  const auto a = py::arg("a"), b = py::arg("b"), planes = py::arg("planes");
  def(program, "sum", &sum_step, name, a, b, output, planes, py::arg("relu"));
  def(program, "product", &product_step, name, a, b, output, planes);
  def(program, "concat", &concat_step, name, py::arg("inputs"), output);
}

}  // namespace cnnlib
