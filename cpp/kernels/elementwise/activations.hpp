// Passes element by element: ReLU, sums and products of two arrays, and the other activations. NaN stays NaN.
#pragma once

#include <cstring>

#include "kernels/elementwise/activation_functions.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index elementwise_grain = 1 << 15;  // values of a task: many times what starting it costs

// out[i] = value(i, lanes) for all vectors of [0, n), in parallel; `work` is what an element takes.
template <class T, class Value>
void elementwise(T* out, Index n, double work, const Value& value) {
  const bool non_temporal = use_non_temporal<T>(n);
  parallel_ranges(n, elementwise_grain, work, [=](Index begin, Index end) {
    write_vectors(out + begin, end - begin, non_temporal,
                  [&](Index i, Index count) { return value(begin + i, count); });
    store_fence();
  });
}

// The same, and copy[i] = out[i].
template <class T, class Value>
void elementwise_with_copy(T* out, T* copy, Index n, double work, const Value& value) {
  const bool non_temporal = use_non_temporal<T>(n);
  // Its vectors begin where out's do.
  const bool far = copy_past_caches(copy, n) && (!non_temporal || is_aligned(out));
  parallel_ranges(n, elementwise_grain, work, [=](Index begin, Index end) {
    write_vectors(out + begin, end - begin, non_temporal, [=](Index i, Index count) {
      const auto v = value(begin + i, count);
      store_copy(copy + begin + i, count, v, far);
      return v;
    });
    store_fence();
  });
}

// Bit i of `bits`, the lowest of a byte first, says whether ReLU lets x[i] through: whether it is positive or
// NaN.
template <class T>
void relu_mask(const T* x, std::uint8_t* bits, Index n) {
  using S = Simd<T>;
  constexpr Index word = 64;
  static_assert(elementwise_grain % word == 0);
  const auto passes = [=](Index i, Index count) {
    const unsigned all = (1u << count) - 1;
    return ~S::bits(S::less_equal(load_first(x + i, count), S::zero())) & all;
  };
  parallel_ranges(n, elementwise_grain, 1, [=](Index begin, Index end) {
    for (Index i = begin; i < end; i += word) {
      const Index last = std::min(end, i + word);
      std::uint64_t part = 0;
      if (last == i + word)
        for (Index k = 0; k < word; k += S::size) part |= std::uint64_t(passes(i + k, S::size)) << k;
      else
        for (Index k = 0; i + k < last; k += S::size)
          part |= std::uint64_t(passes(i + k, std::min<Index>(S::size, last - i - k))) << k;
      std::memcpy(bits + i / 8, &part, std::size_t(ceil_div(last - i, 8)));
    }
  });
}

// dx = dout where the bit is set, else 0.
template <class T>
void relu_backward_by_mask(const T* dout, const std::uint8_t* bits, T* dx, Index n) {
  using S = Simd<T>;
  // write_vectors() then starts at multiples of a vector.
  const bool non_temporal = use_non_temporal<T>(n) && is_aligned(dx);
  parallel_ranges(n, elementwise_grain, 1, [=](Index begin, Index end) {
    write_vectors(dx + begin, end - begin, non_temporal, [=](Index from, Index count) {
      const Index i = begin + from;
      unsigned part = bits[i / 8] >> i % 8;
      if (S::size > 8 && count > 8) part |= unsigned(bits[i / 8 + 1]) << 8;
      return S::select(S::from_bits(part), load_first(dout + i, count), S::zero());
    });
    store_fence();
  });
}

// The work of an element, next to reading and writing it.
inline double activation_work(Activation kind) { return is_cheap(kind) ? 1 : 8; }

// use(function) with the function's own type.
template <class T, class Use>
void with_function(Activation kind, T alpha, const Use& use) {
  switch (kind) {
    case Activation::relu: return use(Relu<T>{});
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
    if constexpr (from_value<decltype(function)>)
      if (copy != nullptr) return elementwise_with_copy(out, copy, n, activation_work(kind), value);
    elementwise(out, n, activation_work(kind), value);
  });
}

// dx[i] = dout[i] * value'(x[i]), where `kept` is x, or value(x).
template <class T, class Function>
void gradient_of(const Function& function, const T* dout, const T* kept, T* dx, Index n, double work) {
  elementwise(dx, n, work, [=](Index i, Index count) {
    return function.gradient(load_first(dout + i, count), load_first(kept + i, count));
  });
}
template <class T>
void activation_backward(Activation kind, const T* dout, const T* kept, T* dx, T alpha, Index n) {
  with_function<T>(kind, alpha, [=](auto function) {
    gradient_of(function, dout, kept, dx, n, from_result(kind) ? 1 : activation_work(kind));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
