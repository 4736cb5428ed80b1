// The activations that one table entry serves: a loop over vectors for each function.
#pragma once

#include "kernels/elementwise/activation_functions.hpp"
#include "kernels/elementwise/activations.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr double activation_work = 8;  // of an element, next to reading and writing it

// use(function, work of an element) with the function's own type.
template <class T, class Use>
void with_function(Activation kind, T alpha, const Use& use) {
  switch (kind) {
    case Activation::leaky_relu:
      return use(LeakyRelu<T>{alpha}, 1);
    case Activation::relu6:
      return use(Relu6<T>{}, activation_work);
    case Activation::sigmoid:
      return use(Sigmoid<T>{}, activation_work);
    case Activation::tanh:
      return use(Tanh<T>{}, activation_work);
    case Activation::silu:
      return use(Silu<T>{}, activation_work);
    case Activation::hard_sigmoid:
      return use(HardSigmoid<T>{}, activation_work);
    case Activation::hard_swish:
      return use(HardSwish<T>{}, activation_work);
    case Activation::gelu:
      return use(Gelu<T>{}, activation_work);
    case Activation::gelu_tanh:
      return use(GeluTanh<T>{}, activation_work);
    case Activation::elu:
      return use(Elu<T>{alpha}, activation_work);
    case Activation::count:
      return;
  }
}

// out[i] = value(x[i]); the same in `copy`, unless that is null, where the gradient is taken from it.
template <class T>
void activation_forward(Activation kind, const T* x, T* out, T* copy, T alpha, Index n) {
  with_function<T>(kind, alpha, [=](auto function, double work) {
    const auto value = [=](Index i, Index count) { return function.value(load_first(x + i, count)); };
    if constexpr (function.from_value)
      if (copy != nullptr) return elementwise_with_copy(out, copy, n, work, value);
    elementwise(out, n, work, value);
  });
}

// dx[i] = dout[i] * value'(x[i]), where `kept` is x, or value(x).
template <class T>
void activation_backward(Activation kind, const T* dout, const T* kept, T* dx, T alpha, Index n) {
  with_function<T>(kind, alpha, [=](auto function, double work) {
    elementwise(dx, n, function.from_value ? 1 : work, [=](Index i, Index count) {
      return function.gradient(load_first(dout + i, count), load_first(kept + i, count));
    });
  });
}

}  // namespace cnnlib::CNNLIB_ISA
