// The activations that one table entry serves: a loop over vectors for each function.
#pragma once

#include "kernels/elementwise/activation_functions.hpp"
#include "kernels/elementwise/activations.hpp"

namespace cnnlib::CNNLIB_ISA {

// The work of an element, next to reading and writing it.
inline double activation_work(Activation kind) { return kind == Activation::leaky_relu ? 1 : 8; }

// use(function) with the function's own type.
template <class T, class Use>
void with_function(Activation kind, T alpha, const Use& use) {
  switch (kind) {
    case Activation::leaky_relu: return use(LeakyRelu<T>{alpha});
    case Activation::relu6: return use(Relu6<T>{});
    case Activation::sigmoid: return use(Sigmoid<T>{});
    case Activation::tanh: return use(Tanh<T>{});
    case Activation::silu: return use(Silu<T>{});
    case Activation::hard_sigmoid: return use(HardSigmoid<T>{});
    case Activation::hard_swish: return use(HardSwish<T>{});
    case Activation::gelu: return use(Gelu<T>{});
    case Activation::gelu_tanh: return use(GeluTanh<T>{});
    case Activation::elu: return use(Elu<T>{alpha});
    case Activation::count: return;
  }
}

// out[i] = value(x[i]); the same in `copy`, unless that is null, where the gradient is taken from it.
template <class T>
void activation_forward(Activation kind, const T* x, T* out, T* copy, T alpha, Index n) {
  with_function<T>(kind, alpha, [=](auto function) {
    const auto value = [=](Index i, Index count) { return function.value(load_first(x + i, count)); };
    if constexpr (function.from_value)
      if (copy != nullptr) return elementwise_with_copy(out, copy, n, activation_work(kind), value);
    elementwise(out, n, activation_work(kind), value);
  });
}

// dx[i] = dout[i] * value'(x[i]), where `kept` is x, or value(x).
template <class T>
void activation_backward(Activation kind, const T* dout, const T* kept, T* dx, T alpha, Index n) {
  with_function<T>(kind, alpha, [=](auto function) {
    elementwise(dx, n, function.from_value ? 1 : activation_work(kind), [=](Index i, Index count) {
      return function.gradient(load_first(dout + i, count), load_first(kept + i, count));
    });
  });
}

}  // namespace cnnlib::CNNLIB_ISA
