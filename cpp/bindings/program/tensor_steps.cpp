// Steps of prepared networks on tensors of any rank: numbers put elsewhere, products of many matrices,
// functions of one number and of two, sums over axes, and constants. Shapes are those of a sample.
#include <algorithm>
#include <cmath>

#include "../../strided_copy.hpp"
#include "../../threads/parallel.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// A part of an input that goes somewhere: the input's place among them, sizes, and where the part begins in
// the input and in the output, with the steps along its axes.
using Piece = std::tuple<int, std::vector<Index>, Index, std::vector<Index>, Index, std::vector<Index>>;

struct CheckedPiece {
  std::size_t input;
  StridedCopy copy;
};

// Tells if a start and steps along axes of these sizes stay within `elements`.
bool stays_within(Index elements, const StridedCopy& copy, Index start, const Index* steps) {
  Index low = start, high = start;
  for (int axis = 0; axis < copy.axes; ++axis) {
    Index way = 0;
    if (__builtin_mul_overflow(steps[axis], copy.size[axis] - 1, &way)) return false;
    if (__builtin_add_overflow(way < 0 ? low : high, way, way < 0 ? &low : &high)) return false;
  }
  return low >= 0 && high < elements;
}

std::vector<CheckedPiece> checked(const std::vector<Piece>& pieces, const std::vector<Index>& sizes,
                                  Index output) {
  std::vector<CheckedPiece> found;
  for (const auto& [input, size, from, from_step, to, to_step] : pieces) {
    require(input >= 0 && static_cast<std::size_t>(input) < sizes.size(),
            "prepare: a piece of an input that does not exist");
    CheckedPiece piece{static_cast<std::size_t>(input), {}};
    StridedCopy& copy = piece.copy;
    require(size.size() <= StridedCopy::most_axes && from_step.size() == size.size() &&
                to_step.size() == size.size() && elements_of(size) > 0,
            "prepare: a piece of shape ", size);
    copy.axes = static_cast<int>(size.size());
    std::copy(size.begin(), size.end(), copy.size);
    std::copy(from_step.begin(), from_step.end(), copy.from_step);
    std::copy(to_step.begin(), to_step.end(), copy.to_step);
    copy.from = from;
    copy.to = to;
    require(stays_within(sizes[piece.input], copy, from, copy.from_step) &&
                stays_within(output, copy, to, copy.to_step),
            "prepare: a piece of shape ", size, " outside of its values");
    found.push_back(piece);
  }
  return found;
}

std::vector<Index> sizes_of(const BoundProgram& p, const std::vector<int>& inputs) {
  std::vector<Index> sizes;
  for (const int input : inputs) {
    sizes.push_back(p.size_of(input));
    p.reads(input, {sizes.back()});
  }
  return sizes;
}

void fill(bool single, Out to, Index n, double value) {
  by_type(single, [&](auto zero) {
    using T = decltype(zero);
    std::fill_n(static_cast<T*>(to), n, static_cast<T>(value));
  });
}

// Fills with a number the places that no piece covers, if `filled` has one.
void copy_step(BoundProgram& p, const std::string& name, const std::vector<int>& inputs, int output,
               const std::vector<Piece>& pieces, std::optional<double> filled) {
  const std::vector<Index> sizes = sizes_of(p, inputs);
  const Index size = p.size_of(output);
  p.writes(output, {size});
  std::vector<CheckedPiece> parts = checked(pieces, sizes, size);
  for (CheckedPiece& part : parts) part.copy = simplified(part.copy);
  const bool single = p.kernels.single();
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    if (filled) fill(single, f.write(output), size * f.images, *filled);
    for (const CheckedPiece& part : parts)
      run_copy(part.copy, single, f.read(inputs[part.input]), sizes[part.input], f.write(output), size,
               f.images);
  });
}

// Products (M, N) of `count` matrices (M, K) and as many (K, N).
void matmul_step(BoundProgram& p, const std::string& name, const std::array<int, 2>& inputs, int output,
                 Index count, Index M, Index N, Index K) {
  const auto [a, b] = inputs;
  p.reads_and_writes(a, {count, M, K}, output, {count, M, N});
  p.reads(b, {count, K, N});
  require(elements_of({count, M, N, K}) > 0, "prepare: products without numbers");
  p.add_step(name, double(count) * double(M) * double(N) * double(K) / 8,
             [=, a = a, b = b](const auto& k, const Frame& f) {
               k.matmul(f.read(a), f.read(b), f.write(output), {f.images * count, M, N, K});
             });
}

// run(begin, end) on parts of n elements, each of which costs as much as `cost` of a sum.
template <class Run>
void in_parts(Index n, double cost, const Run& run) {
  constexpr Index part = 4096;  // elements of a task: enough to be worth starting
  parallel_for(ceil_div(n, part), threads_for(cost * double(n) / 4), [&](Index task, int) {
    const Index begin = task * part;
    run(begin, std::min(n, begin + part));
  });
}

constexpr double cost_of_function = 16;  // of exp and the like, in sums

template <class Function>
void add_function(BoundProgram& p, const std::string& name, int input, int output, const Function& function) {
  const Index size = p.size_of(output);
  p.reads_and_writes(input, {size}, output, {size});
  const bool single = p.kernels.single();
  p.add_step(name, cost_of_function * double(size) / 4, [=](const Frame& f) {
    by_type(single, [&](auto zero) {
      using T = decltype(zero);
      const T* from = f.read(input);
      T* to = f.write(output);
      in_parts(size * f.images, cost_of_function, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) to[i] = function(from[i]);
      });
    });
  });
}

// NaN stays, as in NumPy.
template <class T>
T smaller(T x, T y) {
  return x < y || x != x ? x : y;
}
template <class T>
T larger(T x, T y) {
  return x > y || x != x ? x : y;
}

// 'power' takes the exponent a, 'clip' the bounds a and b.
void function_step(BoundProgram& p, const std::string& name, int input, int output, const std::string& kind,
                   double a, double b) {
  if (kind == "exp") return add_function(p, name, input, output, [](auto x) { return std::exp(x); });
  if (kind == "log") return add_function(p, name, input, output, [](auto x) { return std::log(x); });
  if (kind == "absolute") return add_function(p, name, input, output, [](auto x) { return std::abs(x); });
  if (kind == "softplus")
    return add_function(p, name, input, output, [](auto x) {
      return larger(x, decltype(x)(0)) + std::log1p(std::exp(-std::abs(x)));
    });
  if (kind == "power" && a == 0.5)  // as NumPy: NaN of minus infinity
    return add_function(p, name, input, output, [](auto x) { return std::sqrt(x); });
  if (kind == "power")
    return add_function(p, name, input, output, [a](auto x) { return std::pow(x, decltype(x)(a)); });
  require(kind == "clip", "prepare: no function ", kind);
  add_function(p, name, input, output, [a, b](auto x) {
    using T = decltype(x);
    return smaller(larger(x, T(a)), T(b));
  });
}

// out[i] = function(x[i], y[i], i), where i counts the elements of all images.
template <class Function>
void add_pair(BoundProgram& p, const std::string& name, const std::array<int, 2>& inputs, int output,
              const Function& function) {
  const auto [a, b] = inputs;
  const Index size = p.size_of(output);
  p.reads_and_writes(a, {size}, output, {size});
  p.reads(b, {size});
  const bool single = p.kernels.single();
  p.add_step(name, double(size) / 4, [=, a = a, b = b](const Frame& f) {
    by_type(single, [&](auto zero) {
      using T = decltype(zero);
      const T *x = f.read(a), *y = f.read(b);
      T* to = f.write(output);
      in_parts(size * f.images, 1, [&](Index begin, Index end) {
        for (Index i = begin; i < end; ++i) to[i] = function(x[i], y[i], i);
      });
    });
  });
}

void pair_step(BoundProgram& p, const std::string& name, const std::array<int, 2>& inputs, int output,
               const std::string& kind) {
  if (kind == "divide") return add_pair(p, name, inputs, output, [](auto x, auto y, Index) { return x / y; });
  if (kind == "minimum")
    return add_pair(p, name, inputs, output, [](auto x, auto y, Index) { return smaller(x, y); });
  require(kind == "maximum", "prepare: no function ", kind);
  add_pair(p, name, inputs, output, [](auto x, auto y, Index) { return larger(x, y); });
}

// The first input where the mask, of one sample, is not 0, the second one elsewhere.
void where_step(BoundProgram& p, const std::string& name, const std::array<int, 2>& inputs, int output,
                const Array<std::uint8_t>& mask) {
  const Index size = p.size_of(output);
  require_shape("prepare", "mask", mask, {size});
  const std::uint8_t* chosen = p.keep(mask);
  add_pair(p, name, inputs, output, [=](auto x, auto y, Index i) { return chosen[i % size] ? x : y; });
}

// An array, once for each sample of the input.
void constant_step(BoundProgram& p, const std::string& name, int input, int output, const Floats& array) {
  const Index size = p.size_of(output), bytes = p.bytes_of_value(output);
  p.reads_and_writes(input, {p.size_of(input)}, output, {array.size()});
  const int number = p.takes(array);
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    copy_rows(f.weights->array(number), 0, f.write(output), bytes, bytes, f.images);
  });
}

// Sizes of axes, and steps along them.
using Axes = std::tuple<std::vector<Index>, std::vector<Index>>;

// Returns how far each element along these axes lies behind the first one.
std::vector<Index> places_along(const Axes& axes, Index elements) {
  const auto& [sizes, steps] = axes;
  require(sizes.size() == steps.size() && elements_of(sizes) > 0 && elements_of(sizes) <= elements,
          "prepare: axes of ", sizes, " in a value of ", elements);
  std::vector<Index> places{0};
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    require(steps[axis] >= 0 && steps[axis] <= elements, "prepare: a step of ", steps[axis]);
    std::vector<Index> longer;
    longer.reserve(places.size() * static_cast<std::size_t>(sizes[axis]));
    for (const Index place : places)
      for (Index i = 0; i < sizes[axis]; ++i) longer.push_back(place + i * steps[axis]);
    places = std::move(longer);
  }
  return places;
}

// A sum, mean or maximum over some axes of a sample, for each place along the others; sums in float64.
void reduce_step(BoundProgram& p, const std::string& name, int input, int output, const std::string& kind,
                 const Axes& kept, const Axes& gone) {
  const bool mean = kind == "mean", maximum = kind == "max";
  require(mean || maximum || kind == "sum", "prepare: no reduction ", kind);
  const Index size = p.size_of(input);
  p.reads(input, {size});
  const std::vector<Index> firsts = places_along(kept, size), places = places_along(gone, size);
  const Index count = static_cast<Index>(places.size()), outputs = static_cast<Index>(firsts.size());
  p.writes(output, {outputs});
  require(*std::max_element(firsts.begin(), firsts.end()) + *std::max_element(places.begin(), places.end()) <
              size,
          "prepare: axes outside of their value");
  const bool single = p.kernels.single();
  p.add_step(name, double(size) / 4, [=](const Frame& f) {
    by_type(single, [&](auto zero) {
      using T = decltype(zero);
      const T* from = f.read(input);
      T* to = f.write(output);
      parallel_for(f.images * outputs, threads_for(double(size * f.images) / 4), [&](Index i, int) {
        const T* own = from + i / outputs * size + firsts[static_cast<std::size_t>(i % outputs)];
        T most = own[places[0]];
        double sum = 0;
        if (maximum)
          for (const Index place : places) most = larger(own[place], most);
        else
          for (const Index place : places) sum += double(own[place]);
        to[i] = maximum ? most : T(mean ? sum / double(count) : sum);
      });
    });
  });
}

}  // namespace

void bind_tensor_steps(py::class_<BoundProgram>& program) {
  def(program, "copy(name, inputs, output, pieces, filled)", &copy_step);
  def(program, "matmul(name, inputs, output, count, M, N, K)", &matmul_step);
  def(program, "function(name, input, output, kind, a, b)", &function_step);
  def(program, "pair(name, inputs, output, kind)", &pair_step);
  def(program, "where(name, inputs, output, mask)", &where_step);
  def(program, "constant(name, input, output, array)", &constant_step);
  def(program, "reduce(name, input, output, kind, kept, gone)", &reduce_step);
}

}  // namespace cnnlib
