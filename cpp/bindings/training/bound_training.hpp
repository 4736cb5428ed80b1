// A training program as Python sees it: layers are checked once, as they are added.
#pragma once

#include <atomic>

#include "../../training/program.hpp"
#include "../program/checks.hpp"
#include "../program/narrow_values.hpp"

namespace cnnlib {

// What Python hands from a forward pass to its backward pass.
struct BoundBatch {
  const void* program;
  Batch batch;
  std::vector<Floats> kept;   // the arrays that the batch points into
  std::atomic<bool> used_up;  // by a backward pass, of which there may be several at once without a GIL
};

// How an image of each value lies that is bfloat16; the other values, or all of them, have none.
using ValueImages = std::optional<std::vector<std::optional<ImageSizes>>>;

// eps, and what a batch norm's statistics are to be mixed into: momentum, running mean and variance.
using NormState = std::tuple<double, double, Floats, Floats>;

// Each value of the network is made once, read only after that and before it is released, and has as many
// elements as the layer takes it to have.
class BoundTraining {
 public:
  friend Index float_size(const BoundTraining& p) { return AnyKernels(p.single_).item(); }

  // Sizes of values in elements of an image, the input's first, and whose gradients are wanted; of the
  // parameters their shapes, and which are trained; what no layer after each one reads; and, unless there are
  // none of bfloat16, how the values lie.
  BoundTraining(const py::dtype& dtype, const std::vector<Index>& sizes, std::vector<bool> wanted,
                std::vector<std::vector<Index>> params, std::vector<bool> trained,
                std::vector<std::vector<int>> done, const ValueImages& images);

  Index size_of(int value) const;
  // The layer that is being added reads and makes values of which an image has these shapes.
  void reads(int value, const ShapeView& shape) const { reads(value, shape, false); }
  void makes(int value, const ShapeView& shape) { makes(value, shape, false); }
  // Checks a value of bfloat16 in the same way, and returns how its images lie.
  const BfloatImage& reads_image(int value) const;
  const BfloatImage& makes_image(int value, const ShapeView& shape);
  // Whether the gradient of a value is wanted.
  bool wants(int value) const { return wanted_[static_cast<std::size_t>(value)]; }
  // Its parameters (-1: none); its batch norm of C channels and its mask, of which it returns the number.
  void takes(int param, Index elements, bool optional = false) const;
  bool trains(int param) const { return trained_[static_cast<std::size_t>(param)]; }
  std::size_t new_norm(Index C) {
    norms_.push_back(C);
    return norms_.size() - 1;
  }
  std::size_t new_mask(Index elements) {
    masks_.push_back(elements);
    return masks_.size() - 1;
  }
  // The data of an array that a layer reads, which lives as long as the program; null for none.
  In keep(const MaybeFloats& array) {
    if (array) kept_.push_back(*array);
    return array;
  }
  // The layer that makes a value.
  void add(int out, Batch::Layer layer);

  // Whether these are the arrays that the program is for.
  bool fits(const std::vector<py::object>& params) const { return are_arrays_of(params, params_, single_); }

  // (batch, outputs, running statistics). `outputs` are numbers of values with the shapes of an image's. A
  // batch that is `timed` measures how long each layer takes.
  py::tuple forward(const Floats& x, const std::vector<py::object>& params,
                    const std::vector<NormState>& norms, const std::vector<Floats>& masks,
                    const std::vector<std::pair<int, std::vector<Index>>>& outputs, bool timed) const {
    check_call(x, params, norms, masks, outputs);
    std::unique_ptr<BoundBatch> bound(new BoundBatch{this, {single_, x.shape(0), forms_}, {x}, {false}});
    Batch& batch = bound->batch;
    for (const py::object& array : params) {
      bound->kept.push_back(py::reinterpret_borrow<Floats>(array));
      batch.params.push_back(bound->kept.back());
    }
    for (const Floats& mask : masks) {
      bound->kept.push_back(mask);
      batch.masks.push_back(mask);
    }
    for (const NormState& norm : norms) batch.eps.push_back(std::get<0>(norm));
    batch.mean.resize(norms.size());
    batch.var.resize(norms.size());
    batch.values[0] = lent_memory(x);
    if (timed) batch.seconds.resize(layers_.size());
    run_batch_unlocked("loss", batch.N, [&] {
      for (std::size_t i = 0; i < layers_.size(); ++i) batch.pass_forward(layers_[i], active_[i], done_[i]);
    });
    py::list results, statistics;
    for (const auto& [value, shape] : outputs) results.append(array_of(batch, value, shape));
    for (std::size_t i = 0; i < norms.size(); ++i) {
      const auto& [eps, momentum, mean, var] = norms[i];
      statistics.append(py::make_tuple(moved_statistic(mean, batch.mean[i].get(), momentum),
                                       moved_statistic(var, batch.var[i].get(), momentum)));
    }
    batch.values.clear();
    return py::make_tuple(std::move(bound), results, statistics);
  }

  // The gradients of the parameters that are trained. `batch` is used up.
  py::list backward(BoundBatch& bound, const std::vector<std::pair<int, Floats>>& douts) const {
    require(bound.program == this, "loss: a batch of another network");
    for (const auto& [value, dout] : douts) require_one_dtype(*this, dout);
    for (const auto& [value, dout] : douts)
      require(dout.size() == bound.batch.N * size_of(value), "loss: the gradient of the output has shape ",
              dout);
    require(!bound.used_up.exchange(true), "loss: the batch was taken back before");
    Batch batch = std::move(bound.batch);
    py::list gradients;
    batch.param_gradients.resize(params_.size());
    for (std::size_t i = 0; i < params_.size(); ++i) {
      if (!trained_[i]) continue;
      Floats gradient = new_array("loss", params_[i], single_);
      batch.param_gradients[i] = gradient.mutable_data();
      gradients.append(std::move(gradient));
    }
    for (const auto& [value, dout] : douts) batch.add_gradient(value, lent_memory(dout));
    run_batch_unlocked("loss", batch.N, [&] { batch.pass_backward(); });
    bound.batch.seconds = std::move(batch.seconds);
    return gradients;
  }

 private:
  void check_call(const Floats& x, const std::vector<py::object>& params, const std::vector<NormState>& norms,
                  const std::vector<Floats>& masks,
                  const std::vector<std::pair<int, std::vector<Index>>>& outputs) const;

  // A copy where the memory is the caller's, another output's, or a layer's that kept it, since who gets the
  // array may write to it.
  static py::array array_of(Batch& batch, int value, std::vector<Index> shape) {
    Memory<void>& memory = batch.value(value);
    shape.insert(shape.begin(), batch.N);
    if (memory.use_count() != 1) {
      Floats copy = new_array("loss", shape, batch.kernels.single());
      std::memcpy(copy.mutable_data(), memory.get(), static_cast<std::size_t>(copy.nbytes()));
      return std::move(copy);
    }
    auto owner = std::make_unique<Memory<void>>(memory);
    void* data = owner->get();
    py::capsule capsule(owner.release(), [](void* p) { delete static_cast<Memory<void>*>(p); });
    return {dtype_of(batch.kernels.single()), py::array::ShapeContainer(shape.begin(), shape.end()), data,
            capsule};
  }

  void reads(int value, const ShapeView& shape, bool narrow) const;
  void makes(int value, const ShapeView& shape, bool narrow);
  const ValueForm& form(int value) const;

  bool single_;
  std::vector<ValueForm> forms_;
  std::vector<bool> wanted_, alive_;  // of the values; the latter so far
  std::vector<std::vector<Index>> params_;
  std::vector<bool> trained_;           // of the parameters
  std::vector<std::vector<int>> done_;  // of the layers: values that each releases
  std::vector<bool> active_;            // of the layers
  std::vector<Index> norms_, masks_;    // channels, and elements of an image
  std::vector<Batch::Layer> layers_;
  std::vector<Floats> kept_;
};

// Whether a ReLU follows a layer, and what the layer keeps of its result for it: the bits where the gradient
// passes or, where another layer keeps the result anyway, the result.
enum class Relu { none, by_mask, by_result };

struct KeptRelu {
  Memory<std::uint8_t> mask;
  Memory<void> y;

  KeptRelu(Batch& batch, int out, Relu relu) {
    const Index n = batch.elements(out);
    if (relu == Relu::by_result) y = batch.value(out);
    if (relu != Relu::by_mask) return;
    mask = new_memory<std::uint8_t>(ceil_div(n, 8));
    batch.kernels([&](const auto& k) { k.relu_mask(In(batch.value(out)), mask.get(), n); });
  }

  // The gradient before the ReLU, or the output's, dout, where there is none.
  Memory<void> before(Batch& batch, int out, const Memory<void>& dout) const {
    if (mask == nullptr && y == nullptr) return dout;
    const Memory<void> result = batch.like(out);
    const Index n = batch.elements(out);
    batch.kernels([&](const auto& k) {
      if (mask != nullptr)
        k.relu_backward_by_mask(In(dout), mask.get(), Out(result), n);
      else
        k.activation_backward(Activation::relu, In(dout), In(y), Out(result), 0, n);
    });
    return result;
  }
};

// Mean, variance and 1 / sqrt(variance + eps) of a batch norm's C channels, the first two left in the batch.
struct BatchStatistics {
  Memory<double> mean, var, inv_std;

  BatchStatistics(Batch& batch, std::size_t norm, Index C)
      : mean(batch.mean[norm] = new_memory<double>(C)),
        var(batch.var[norm] = new_memory<double>(C)),
        inv_std(new_memory<double>(C)) {}
};

inline void check_norm(const BoundTraining& p, int gamma, int beta, Index C) {
  for (const int param : {gamma, beta}) {
    p.takes(param, C);
    require(p.trains(param), "loss: a norm that is frozen");
  }
}

// The layers by family.
[[gnu::cold]] void bind_weighted_layers(py::class_<BoundTraining>& program);
[[gnu::cold]] void bind_elementwise_layers(py::class_<BoundTraining>& program);
[[gnu::cold]] void bind_bfloat16_layers(py::class_<BoundTraining>& program);
[[gnu::cold]] void bind_attention_layer(py::class_<BoundTraining>& program);

}  // namespace cnnlib
