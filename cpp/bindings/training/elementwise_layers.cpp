// Dropout, scaling, sums and rows of values joined, each as its layer of cnnlib.layers computes it.
// `x` and `out` are numbers of values, `mask` of a dropout layer's mask.
#include "bound_training.hpp"

namespace cnnlib {
namespace {

template <class T>
void check_elements(BoundTraining<T>& p, int x, int out) {
  p.reads(x, {p.size_of(x)});
  p.makes(out, {p.size_of(x)});
}

template <class T>
void scale_layer(BoundTraining<T>& p, int x, int out, double factor) {
  check_elements(p, x, out);
  const auto scaled = [a = static_cast<T>(factor)](const T* from, T* to, Index n) {
    std::transform(from, from + n, to, [a](T value) { return a * value; });
  };
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    scaled(batch.value(x).get(), batch.make(out), batch.elements(out));
    return [=](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) { scaled(dout, dx, taken.elements(x)); });
    };
  });
}

template <class T>
void dropout_layer(BoundTraining<T>& p, int x, int out, std::size_t mask) {
  check_elements(p, x, out);
  p.has_mask(mask, p.size_of(x));
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().multiply(batch.value(x).get(), batch.masks[mask], batch.make(out), batch.elements(out));
    return [=](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) {
        kernels<T>().multiply(dout, taken.masks[mask], dx, taken.elements(x));
      });
    };
  });
}

// The sum of two values of one shape.
template <class T>
void add_layer(BoundTraining<T>& p, const std::array<int, 2>& terms, int out, bool relu,
               const std::array<bool, 2>& needs) {
  const Index size = p.size_of(terms[0]);
  for (const int x : terms) p.reads(x, {size});
  p.makes(out, {size});
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    const T *first = batch.value(terms[0]).get(), *second = batch.value(terms[1]).get();
    T* y = batch.make(out);
    (relu ? kernels<T>().add_relu : kernels<T>().add)(first, second, y, batch.elements(out));
    return [=, kept = relu ? batch.value(out) : Memory<T>()](Batch<T>& taken) {
      Memory<T> dout = taken.take_gradient(out);
      if (relu) {
        Memory<T> before = taken.like(out);
        kernels<T>().relu_backward(dout.get(), kept.get(), before.get(), taken.elements(out));
        dout = std::move(before);
      }
      for (int i = 0; i < 2; ++i)
        if (needs[i]) taken.add_gradient(terms[i], dout);
    };
  });
}

// to[n] = from[n] for the rows of n images; each lies a step behind the one before.
template <class T>
void copy_rows(const T* from, Index from_step, T* to, Index to_step, Index row, Index N) {
  for (Index n = 0; n < N; ++n) std::copy_n(from + n * from_step, row, to + n * to_step);
}

// Images one behind the other along their first axis.
template <class T>
void concat_layer(BoundTraining<T>& p, const std::vector<int>& xs, int out, const std::vector<bool>& needs) {
  require(needs.size() == xs.size(), "loss: which gradients are needed?");
  std::vector<Index> rows;  // elements of an image
  Index all = 0;
  for (const int x : xs) {
    rows.push_back(p.size_of(x));
    p.reads(x, {rows.back()});
    require(!__builtin_add_overflow(all, rows.back(), &all), "loss: too large");
  }
  p.makes(out, {all});
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    T* y = batch.make(out);
    for (std::size_t i = 0; i < xs.size(); y += rows[i++])
      copy_rows<T>(batch.value(xs[i]).get(), rows[i], y, all, rows[i], batch.N);
    return [=](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out);
      const T* from = dout.get();
      for (std::size_t i = 0; i < xs.size(); from += rows[i++])
        if (needs[i]) {
          const Memory<T> dx = taken.like(xs[i]);
          copy_rows<T>(from, all, dx.get(), rows[i], rows[i], taken.N);
          taken.add_gradient(xs[i], dx);
        }
    };
  });
}

template <class T>
void flatten_layer(BoundTraining<T>& p, int x, int out) {
  check_elements(p, x, out);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    batch.value(out) = batch.value(x);
    return [=](Batch<T>& taken) { taken.add_gradient(x, taken.take_gradient(out)); };
  });
}

}  // namespace

template <class T>
void bind_elementwise_layers(py::class_<BoundTraining<T>>& program) {
  const auto x = py::arg("x"), out = py::arg("out"), needs = py::arg("needs");
  program.def("scale", &scale_layer<T>, x, out, py::arg("factor"))
      .def("dropout", &dropout_layer<T>, x, out, py::arg("mask"))
      .def("add", &add_layer<T>, py::arg("terms"), out, py::arg("relu"), needs)
      .def("concat", &concat_layer<T>, py::arg("xs"), out, needs)
      .def("flatten", &flatten_layer<T>, x, out);
}

template void bind_elementwise_layers(py::class_<BoundTraining<float>>&);
template void bind_elementwise_layers(py::class_<BoundTraining<double>>&);

}  // namespace cnnlib
