// Convolutions whose weights are packed once, for many batches.
#include <atomic>
#include <limits>
#include <memory>

#include "../../memory/buffers.hpp"
#include "conv_shape.hpp"

namespace cnnlib {
namespace {

// Weights packed for one size of images by one instruction set.
template <class T>
struct PackedWeights {
  const Kernels<T>* kernels;
  ConvPlan plan;
  OwnedBuffer memory;
  PackedWeights* next = nullptr;

  PackedWeights(const Kernels<T>& own, const ConvShape& s, const T* w)
      : kernels(&own), plan(own.prepare_conv(s, Pass::forward)), memory(acquire_buffer(plan.packed_bytes)) {
    own.pack_conv(plan, w, data());
  }
  T* data() const { return static_cast<T*>(memory.get()); }

  // Whatever the batch.
  bool suit(const Kernels<T>& wanted, ConvShape s) const {
    s.N = plan.shape.N;
    return kernels == &wanted && same_shape(s, plan.shape);
  }
};

// The list of packed weights only grows, and is read without a lock: no thread and no forked child waits.
template <class T>
class PreparedConv {
 public:
  PreparedConv(const Array<T>& w, const MaybeArray<T>& b, const py::object& conv_param)
      : w_(w), b_(b), conv_param_(conv_param) {}
  ~PreparedConv() {
    for (PackedWeights<T>* p = first_; p != nullptr;) delete std::exchange(p, p->next);
  }
  PreparedConv(const PreparedConv&) = delete;
  PreparedConv& operator=(const PreparedConv&) = delete;

  py::array forward(const char* function, const Array<T>& x, bool relu, const MaybeArray<T>& out_buffer) {
    const ConvShape s = conv_shape(function, x, w_, conv_param_);
    return computed<T>(
        function, {s.N, s.F, s.OH, s.OW}, out_buffer, [&](T* y) { run(s, x.data(), y, relu); }, products(s));
  }

  // Pairs of a method and the bytes that it packed, the size met last first.
  py::list packed() const {
    py::list sizes;
    for (const PackedWeights<T>* p = first_; p != nullptr; p = p->next)
      sizes.append(py::make_tuple(name_of(p->plan.method), p->plan.packed_bytes));
    return sizes;
  }

 private:
  static constexpr int most_sizes = 16;

  void run(const ConvShape& s, const T* x, T* out, bool relu) {
    const Kernels<T>& kernels = cnnlib::kernels<T>();
    const PackedWeights<T>* packed = s.N > 0 ? packed_for(kernels, s) : nullptr;
    if (packed == nullptr) return kernels.conv_forward(x, w_.data(), data_or_null(b_), out, s, relu);
    ConvPlan plan = packed->plan;
    plan.shape.N = s.N;
    const ConvEpilogue<T> epilogue{data_or_null(b_), false, relu, std::numeric_limits<T>::infinity()};
    kernels.run_prepared_conv(plan, x, w_.data(), packed->data(), epilogue, out);
  }

  // Null where there are too many sizes already: such a call packs for itself. Two threads that meet a size
  // at the same time both pack it, and both keep it.
  const PackedWeights<T>* packed_for(const Kernels<T>& kernels, const ConvShape& s) {
    int sizes = 0;
    for (const PackedWeights<T>* p = first_; p != nullptr; p = p->next, ++sizes)
      if (p->suit(kernels, s)) return p;
    if (sizes >= most_sizes) return nullptr;
    auto packed = std::make_unique<PackedWeights<T>>(kernels, s, w_.data());
    packed->next = first_;
    while (!first_.compare_exchange_weak(packed->next, packed.get())) {
    }
    return packed.release();
  }

  Array<T> w_;  // nobody else may write to them
  MaybeArray<T> b_;
  py::object conv_param_;
  std::atomic<PackedWeights<T>*> first_{nullptr};
};

}  // namespace

template <class T>
void bind_prepared_conv(py::module_& m, const char* name) {
  using Prepared = PreparedConv<T>;
  py::class_<Prepared>(m, name)
      .def(py::init<const Array<T>&, const MaybeArray<T>&, const py::object&>(), fixed("w"),
           fixed("b").none(true), py::arg("conv_param"))
      .def("forward", &Prepared::forward, py::arg("function"), fixed("x"), py::arg("relu"),
           fixed("out") = py::none())
      .def("packed", &Prepared::packed);
}

template void bind_prepared_conv<float>(py::module_&, const char*);
template void bind_prepared_conv<double>(py::module_&, const char*);

}  // namespace cnnlib
