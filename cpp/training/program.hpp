// Training steps of a network: forward through its layers, each of which says what its backward pass is to do
// and keeps what that needs, and backward from the last layer to the first.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../memory/buffers.hpp"
#include "../numbers.hpp"

namespace cnnlib {

// Memory from the pool of buffers, released with its last owner.
template <class T>
using Memory = std::shared_ptr<T>;

template <class T>
Memory<T> new_memory(Index elements) {
  const auto size = static_cast<std::size_t>(std::max<Index>(1, elements));
  return Memory<T>(static_cast<T*>(acquire_buffer(checked_product(sizeof(T), size))), ReleaseBuffer{});
}

// The caller's memory: it has no owner (use_count() is 0), and is never released or written to.
inline Memory<void> lent_memory(In memory) {
  return Memory<void>(Memory<void>(), const_cast<void*>(static_cast<const void*>(memory)));
}

// How long a layer took.
struct LayerSeconds {
  double forward = 0, backward = 0;
};

// What an image of a value consists of: numbers, or bfloat16 that lie in another way.
struct ValueForm {
  Index elements;
  std::optional<BfloatImage> image;

  Index bytes(Index item) const { return image ? image->bytes() : elements * item; }
};

// A batch on its way through the network and back.
struct Batch {
  using Backward = std::function<void(Batch&)>;
  using Layer = std::function<Backward(Batch&)>;

  Batch(bool single, Index images, const std::vector<ValueForm>& forms_of_values)
      : kernels(single), N(images), forms(forms_of_values), values(forms.size()), gradients(forms.size()) {}

  AnyKernels kernels;
  Index N;
  const std::vector<ValueForm>& forms;  // of the values
  std::vector<In> params;
  std::vector<Out> param_gradients;
  std::vector<In> masks;                        // of dropout layers
  std::vector<double> eps;                      // of batch norms
  std::vector<Memory<double>> mean, var;        // of batch norms, in this batch
  std::vector<Memory<void>> values, gradients;  // of the live values
  std::vector<Backward> backward;               // of the layers so far
  std::vector<LayerSeconds> seconds;            // of all layers; empty where nobody asked

  const ValueForm& form(int value) const { return forms[static_cast<std::size_t>(value)]; }
  Index elements(int value) const { return N * form(value).elements; }
  Memory<void>& value(int i) { return values[static_cast<std::size_t>(i)]; }
  In param(int i) const { return i < 0 ? In() : params[static_cast<std::size_t>(i)]; }
  Out param_gradient(int i) const { return i < 0 ? Out() : param_gradients[static_cast<std::size_t>(i)]; }

  // Memory for a value that a layer is about to compute, or for the gradient of one.
  Out make(int i) { return value(i) = like(i); }
  Memory<void> like(int i) const { return new_memory<char>(N * form(i).bytes(kernels.item())); }

  // The gradient of a layer's output, for the layer to use up.
  Memory<void> take_gradient(int i) {
    Memory<void> gradient = std::move(gradients[static_cast<std::size_t>(i)]);
    if (gradient == nullptr) throw std::invalid_argument("loss: a layer without a gradient of its output");
    return gradient;
  }
  // The gradient of a layer's input x, where it is needed: gradient(dx), of null where it is not.
  template <class F>
  void pass_to(int x, bool needed, const F& gradient) {
    Memory<void> dx = needed ? like(x) : Memory<void>();
    gradient(Out(dx));
    if (needed) add_gradient(x, std::move(dx));
  }
  // The same, from that of the layer's output: gradient(dout, dx).
  template <class F>
  void pass_back(int x, int out, const F& gradient) {
    const Memory<void> dout = take_gradient(out);
    pass_to(x, true, [&](Out dx) { gradient(In(dout), dx); });
  }
  // Adds to the gradient of a layer's input what came through the layer.
  void add_gradient(int i, Memory<void> gradient) {
    Memory<void>& total = gradients[static_cast<std::size_t>(i)];
    if (total == nullptr) {
      total = std::move(gradient);
      return;
    }
    // Into that of the two that nobody else holds: a sum hands one gradient to both of its terms.
    Memory<void> sum = total.use_count() == 1 ? total : gradient.use_count() == 1 ? gradient : like(i);
    if (const auto& image = form(i).image)
      active_bfloat16()->join({*image, *image, *image, Join::add}, In(total), In(gradient), Out(sum), N);
    else
      kernels([&](const auto& k) { k.join(Join::add, In(total), In(gradient), Out(sum), elements(i)); });
    total = std::move(sum);
  }

  // Through a layer; one without a gradient is not active and keeps nothing. `done` are the values that no
  // later layer reads.
  void pass_forward(const Layer& layer, bool active, const std::vector<int>& done) {
    timed(&LayerSeconds::forward, [&] {
      Backward layers_own = layer(*this);
      backward.push_back(active ? std::move(layers_own) : nullptr);
      for (const int i : done) value(i).reset();
    });
  }
  // Through all layers; releases what each kept as soon as its gradients are there.
  void pass_backward() {
    while (!backward.empty()) {
      Backward layer = std::move(backward.back());
      backward.pop_back();
      timed(&LayerSeconds::backward, [&] {
        if (layer) layer(*this);
        layer = nullptr;  // which releases what it kept
      });
    }
  }

 private:
  // Runs a pass of the layer behind those in `backward`, and notes its seconds where they are wanted.
  template <class Pass>
  void timed(double LayerSeconds::* way, const Pass& pass) {
    if (seconds.empty()) return pass();
    using Clock = std::chrono::steady_clock;
    const std::size_t layer = backward.size();
    const auto start = Clock::now();
    pass();
    seconds[layer].*way = std::chrono::duration<double>(Clock::now() - start).count();
  }
};

}  // namespace cnnlib
