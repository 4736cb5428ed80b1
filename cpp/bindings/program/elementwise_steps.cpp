// Sums and products of values, and values joined.
#include <algorithm>
#include <numeric>

#include "../../threads/parallel.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// b is as large as a, or has a value for each of its `planes`.
void join_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes, Join kind) {
  const Index size = p.size_of(output);
  p.reads_and_writes(a, {size}, output, {size});
  const bool whole = p.size_of(b) == size;
  if (!whole) {
    p.reads(b, {planes});
    require(size % planes == 0, "prepare: planes that do not divide their value");
  }
  p.add_step(name, double(size) / 4, [=](const auto& k, const Frame& f) {
    const In x = f.read(a), y = f.read(b);
    whole ? k.join(kind, x, y, f.write(output), size * f.images)
          : k.join_planes(kind, x, y, f.write(output), planes * f.images, size / planes);
  });
}

void sum_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes, bool relu) {
  join_step(p, name, a, b, output, planes, relu ? Join::add_relu : Join::add);
}

void product_step(BoundProgram& p, const std::string& name, int a, int b, int output, Index planes) {
  join_step(p, name, a, b, output, planes, Join::multiply);
}

// Values times a number.
void scale_step(BoundProgram& p, const std::string& name, int input, int output, double factor) {
  constexpr Index part = 4096;  // elements of a task: enough to be worth starting
  const Index size = p.size_of(input);
  p.reads_and_writes(input, {size}, output, {size});
  const bool single = p.kernels.single();
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    const Index n = size * f.images;
    by_type(single, [&](auto zero) {
      using T = decltype(zero);
      const T* from = f.read(input);
      T* to = f.write(output);
      const T a = static_cast<T>(factor);
      parallel_for(ceil_div(n, part), threads_for(double(n) / 4), [=](Index task, int) {
        const Index begin = task * part, end = std::min(n, begin + part);
        for (Index i = begin; i < end; ++i) to[i] = a * from[i];
      });
    });
  });
}

void concat_step(BoundProgram& p, const std::string& name, const std::vector<int>& inputs, int output) {
  std::vector<Index> sizes;
  for (const int input : inputs) sizes.push_back(p.size_of(input));
  const Index size = p.size_of(output), item = p.kernels.item();
  for (std::size_t i = 0; i < inputs.size(); ++i) p.reads(inputs[i], {sizes[i]});
  p.writes(output, {std::accumulate(sizes.begin(), sizes.end(), Index{0})});
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    Out to = f.write(output);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Index row = sizes[i] * item;
      copy_rows(f.read(inputs[i]), row, to, size * item, row, f.images);
      to = to + row;
    }
  });
}

}  // namespace

void bind_elementwise_steps(py::class_<BoundProgram>& program) {
  def(program, "sum(name, a, b, output, planes, relu)", &sum_step);
  def(program, "product(name, a, b, output, planes)", &product_step);
  def(program, "scale(name, input, output, factor)", &scale_step);
  def(program, "concat(name, inputs, output)", &concat_step);
}

}  // namespace cnnlib
