// Dropout, scaling, sums and rows of values joined, each as its layer of cnnlib.layers computes it.
// `x` and `out` are numbers of values.
#include "bound_training.hpp"

namespace cnnlib {
namespace {

void check_elements(BoundTraining& p, int x, int out) {
  p.reads(x, {p.size_of(x)});
  p.makes(out, {p.size_of(x)});
}

// Multiplies values on their way and gradients on their way back by the same: multiply(batch, from, to, n).
template <class Multiply>
void factors_layer(BoundTraining& p, int x, int out, const Multiply& multiply) {
  check_elements(p, x, out);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    multiply(batch, batch.value(x), batch.make(out), batch.elements(x));
    return [=](Batch& taken) {
      taken.pass_back(x, out, [&](In dout, Out dx) { multiply(taken, dout, dx, taken.elements(x)); });
    };
  });
}

void scale_layer(BoundTraining& p, int x, int out, double factor) {
  factors_layer(p, x, out, [=](const Batch& batch, In from, Out to, Index n) {
    by_type(batch.kernels.single(), [&](auto zero) {
      using T = decltype(zero);
      std::transform<const T*, T*>(from, from + n * batch.kernels.item(), to,
                                   [a = static_cast<T>(factor)](T value) { return a * value; });
    });
  });
}

void dropout_layer(BoundTraining& p, int x, int out) {
  const std::size_t mask = p.new_mask(p.size_of(x));
  factors_layer(p, x, out, [=](const Batch& batch, In from, Out to, Index n) {
    batch.kernels([&](const auto& k) { k.join(Join::multiply, from, batch.masks[mask], to, n); });
  });
}

// The sum of two values of one shape.
void add_layer(BoundTraining& p, const std::array<int, 2>& terms, int out, bool relu) {
  const Index size = p.size_of(terms[0]);
  for (const int x : terms) p.reads(x, {size});
  p.makes(out, {size});
  const std::array<bool, 2> wanted{p.wants(terms[0]), p.wants(terms[1])};
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const In first = batch.value(terms[0]), second = batch.value(terms[1]);
    const Out y = batch.make(out);
    batch.kernels([&](const auto& k) {
      k.join(relu ? Join::add_relu : Join::add, first, second, y, batch.elements(out));
    });
    return [=, kept = KeptRelu(batch, out, relu ? Relu::by_result : Relu::none)](Batch& taken) {
      const Memory<void> dout = kept.before(taken, out, taken.take_gradient(out));
      for (int i = 0; i < 2; ++i)
        if (wanted[i]) taken.add_gradient(terms[i], dout);
    };
  });
}

// Images one behind the other along their first axis.
void concat_layer(BoundTraining& p, const std::vector<int>& xs, int out) {
  const Index item = float_size(p);
  std::vector<Index> rows;   // bytes of an image
  std::vector<bool> wanted;  // of the gradients
  Index elements = 0;
  for (const int x : xs) {
    const Index own = p.size_of(x);
    p.reads(x, {own});
    require(!__builtin_add_overflow(elements, own, &elements), "loss: too large");
    rows.push_back(own * item);
    wanted.push_back(p.wants(x));
  }
  p.makes(out, {elements});
  const Index all = elements * item;
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    Out y = batch.make(out);
    for (std::size_t i = 0; i < xs.size(); y = y + rows[i++])
      copy_rows(batch.value(xs[i]), rows[i], y, all, rows[i], batch.N);
    return [=](Batch& taken) {
      const Memory<void> dout = taken.take_gradient(out);
      In from = dout;
      for (std::size_t i = 0; i < xs.size(); from = from + rows[i++])
        if (wanted[i]) {
          const Memory<void> dx = taken.like(xs[i]);
          copy_rows(from, all, dx, rows[i], rows[i], taken.N);
          taken.add_gradient(xs[i], dx);
        }
    };
  });
}

void flatten_layer(BoundTraining& p, int x, int out) {
  check_elements(p, x, out);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    batch.value(out) = batch.value(x);
    return [=](Batch& taken) { taken.add_gradient(x, taken.take_gradient(out)); };
  });
}

}  // namespace

void bind_elementwise_layers(py::class_<BoundTraining>& program) {
  def(program, "scale(x, out, factor)", &scale_layer);
  def(program, "dropout(x, out)", &dropout_layer);
  def(program, "add(terms, out, relu)", &add_layer);
  def(program, "concat(xs, out)", &concat_layer);
  def(program, "flatten(x, out)", &flatten_layer);
}

}  // namespace cnnlib
