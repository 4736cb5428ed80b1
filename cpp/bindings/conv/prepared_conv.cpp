// Convolutions whose weights are packed once, for many batches.
#include <atomic>
#include <memory>

#include "../../memory/buffers.hpp"
#include "conv_shape.hpp"

namespace cnnlib {
namespace {

// Weights packed for one size of images by one instruction set.
struct PackedWeights {
  const void* kernels;  // the set's
  ConvChoice choice;
  std::size_t bytes;
  OwnedBuffer memory;
  PackedWeights* next = nullptr;

  PackedWeights(const void* own, const ConvChoice& chosen, std::size_t size)
      : kernels(own), choice(chosen), bytes(size), memory(acquire_buffer(size)) {}
  virtual ~PackedWeights() = default;
  Out data() const { return memory.get(); }

  // Whatever the batch.
  bool suit(const void* wanted, const ConvRequest& request) const {
    return kernels == wanted && same_but_for_batch(request, choice.request);
  }
};

template <class T>
struct PlannedWeights : PackedWeights {
  std::shared_ptr<const ConvPlan<T>> plan;

  PlannedWeights(const Kernels<T>& own, std::shared_ptr<const ConvPlan<T>> of, In w)
      : PackedWeights(&own, of->choice, of->explain(1).packed_bytes), plan(std::move(of)) {
    plan->pack(w, data());
  }
};

// The list of packed weights only grows, and is read without a lock: no thread and no forked child waits.
class PreparedConv {
 public:
  PreparedConv(const Floats& w, const MaybeFloats& b, const py::object& conv_param)
      : w_(w), b_(b), conv_param_(conv_param) {
    require_one_dtype(w, b);
  }
  ~PreparedConv() {
    for (PackedWeights* p = first_; p != nullptr;) delete std::exchange(p, p->next);
  }
  PreparedConv(const PreparedConv&) = delete;
  PreparedConv& operator=(const PreparedConv&) = delete;

  py::object forward(Text function, const Floats& x, bool relu, const MaybeFloats& out_buffer) {
    require_one_dtype(w_, x, out_buffer);
    ConvRequest request = conv_request(function, x, w_, conv_param_);
    request.weights = WeightUse::kept;
    const ConvShape& s = request.shape;
    return computed(
        function, {s.N, s.F, s.OH, s.OW}, w_, out_buffer,
        [&](const auto& k, Out y) { run(k, request, x, y, relu_if(relu)); }, products(s));
  }

  // Pairs of a method and the bytes that it packed, the size met last first.
  py::list packed() const {
    py::list sizes;
    for (const PackedWeights* p = first_; p != nullptr; p = p->next)
      sizes.append(py::make_tuple(name_of(p->choice.method), p->bytes));
    return sizes;
  }

 private:
  static constexpr int most_sizes = 16;

  template <class T>
  void run(const Kernels<T>& kernels, const ConvRequest& request, In x, Out out,
           const Clamp<double>& activation) {
    const Index N = request.shape.N;
    const auto* packed = N > 0 ? packed_for(kernels, request) : nullptr;
    if (packed == nullptr)
      return kernels.conv_forward(x, w_, b_, out, {request.shape, request.wish}, activation);
    packed->plan->run({N, x, w_, packed->data(), Epilogue<T>{b_, false, activation}, out});
  }

  // Null where there are too many sizes already: such a call packs for itself. Two threads that meet a size
  // at the same time both pack it, and both keep it.
  template <class T>
  const PlannedWeights<T>* packed_for(const Kernels<T>& kernels, const ConvRequest& request) {
    int sizes = 0;
    for (const PackedWeights* p = first_; p != nullptr; p = p->next, ++sizes)
      if (p->suit(&kernels, request)) return static_cast<const PlannedWeights<T>*>(p);
    if (sizes >= most_sizes) return nullptr;
    auto packed = std::make_unique<PlannedWeights<T>>(kernels, planned(kernels, request, Pass::forward), w_);
    packed->next = first_;
    PackedWeights* own = packed.get();
    while (!first_.compare_exchange_weak(packed->next, own)) {
    }
    return packed.release();
  }

  Floats w_;  // nobody else may write to them
  MaybeFloats b_;
  py::object conv_param_;
  std::atomic<PackedWeights*> first_{nullptr};
};

}  // namespace

void bind_prepared_conv(py::module_& m) {
  py::class_<PreparedConv>(m, "PreparedConv")
      .def(py::init<const Floats&, const MaybeFloats&, const py::object&>(), Signature("(w, b, conv_param)"))
      .def("forward", &PreparedConv::forward, Signature("(function, x, relu, out=None)"))
      .def("packed", &PreparedConv::packed);
}

}  // namespace cnnlib
