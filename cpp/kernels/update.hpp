// One pass over memory for each optimizer's update: weights and state are written in place.
#pragma once

#include <cmath>

#include "elementwise.hpp"

namespace cnnlib::CNNLIB_ISA {

// w -= rate * dw
template <class T>
void sgd_step(T* w, const T* dw, double rate_, Index n) {
  const T rate = T(rate_);
  parallel_ranges(n, elementwise_slice, 1, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) w[i] -= rate * dw[i];
  });
}

// velocity = momentum * velocity - rate * dw; w += velocity, or with Nesterov's look-ahead
// w += velocity + momentum * (velocity - old velocity).
template <class T>
void momentum_step(T* w, const T* dw, T* velocity, double rate_, double momentum_, bool nesterov, Index n) {
  const T rate = T(rate_), momentum = T(momentum_);
  parallel_ranges(n, elementwise_slice, 2, [=](Index begin, Index end) {
    if (nesterov)
      for (Index i = begin; i < end; ++i) {
        const T old = velocity[i], v = momentum * old - rate * dw[i];
        w[i] += v + momentum * (v - old);
        velocity[i] = v;
      }
    else
      for (Index i = begin; i < end; ++i) {
        const T v = momentum * velocity[i] - rate * dw[i];
        w[i] += v;
        velocity[i] = v;
      }
  });
}

// a = decay * a + (1 - decay) * dw^2; w -= rate * dw / (sqrt(a) + epsilon)
template <class T>
void rmsprop_step(T* w, const T* dw, T* a, double rate_, double decay_, double epsilon_, Index n) {
  const T rate = T(rate_), decay = T(decay_), fresh = T(1 - decay_), epsilon = T(epsilon_);
  parallel_ranges(n, elementwise_slice, 4, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      a[i] = decay * a[i] + fresh * dw[i] * dw[i];
      w[i] -= rate * dw[i] / (std::sqrt(a[i]) + epsilon);
    }
  });
}

// First and second moments v and a, corrected for their start at zero after t steps:
// w -= rate * weight_decay * w + rate * v / (1 - beta1^t) / (sqrt(a / (1 - beta2^t)) + epsilon)
template <class T>
void adam_step(T* w, const T* dw, T* v, T* a, double rate_, double beta1_, double beta2_, double epsilon_,
               double weight_decay, Index t, Index n) {
  const T beta1 = T(beta1_), fresh1 = T(1 - beta1_), beta2 = T(beta2_), fresh2 = T(1 - beta2_);
  const T epsilon = T(epsilon_), keep = T(1 - rate_ * weight_decay);
  const T rate = T(rate_ / (1 - std::pow(beta1_, double(t)))),
          scale = T(1 / (1 - std::pow(beta2_, double(t))));
  parallel_ranges(n, elementwise_slice, 4, [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      v[i] = beta1 * v[i] + fresh1 * dw[i];
      a[i] = beta2 * a[i] + fresh2 * dw[i] * dw[i];
      w[i] = keep * w[i] - rate * v[i] / (std::sqrt(a[i] * scale) + epsilon);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
