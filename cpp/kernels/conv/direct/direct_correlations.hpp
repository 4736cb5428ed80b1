// The correlations of the direct methods, which compute a pass as one or several.
#pragma once

#include <memory>
#include <optional>

#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/method.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Outputs that no tap reaches are their bias.
template <class T>
void write_bias(const Correlation<T>& p) {
  const Index planes = p.groups * p.F;
  parallel_for(p.N * planes, threads_for(1.0 * p.N * planes * p.OH * p.OW), [&](Index plane, int) {
    const T bias = p.epilogue.bias != nullptr ? p.epilogue.bias[plane % planes] : T(0);
    T* out = p.out + plane * p.out_plane;
    for (Index i = 0; i < p.OH; ++i)
      for (Index j = 0; j < p.OW; ++j) {
        T& value = out[i * p.out_row + j * p.out_col];
        value = clamp(p.epilogue.activation, p.epilogue.add ? bias + value : bias);
      }
  });
}

template <class T>
[[gnu::noinline]] void set_operands(const ConvShape& s, const ConvOperands<T>& o, Correlation<T>& p) {
  if (pointwise(s))
    p.H = p.OH = o.N;
  else
    p.N = o.N;
  p.x = o.in;
  p.w = o.w;
  p.w_end = after(o.w, p.weights);
  p.epilogue = o.epilogue;
  p.out = after(o.out, p.out_first);
}

// The outputs of a pass that no tap reaches.
template <class T>
[[gnu::noinline]] void write_without_taps(const ConvShape& s, Pass pass, const ConvOperands<T>& o) {
  each_correlation<T>(s, pass, [&](Correlation<T>& p) {
    set_operands(s, o, p);
    if (p.taps() == 0) write_bias(p);
  });
}

// The correlations of a pass, each with the cut of the method that Blocked<T> runs.
template <class T, template <class> class Blocked>
class DirectCorrelations {
 public:
  explicit DirectCorrelations(const ConvChoice& choice)
      : s(with_images(choice.request.shape, 1)),
        pass(choice.pass),
        parts(new std::optional<Part>[static_cast<std::size_t>(most_parts())]) {
    const bool kept = choice.request.keeps_weights();
    each_correlation<T>(s, pass, [&](Correlation<T>& p) {
      p.prepacked = kept;
      if (p.taps() > 0)
        parts[count++].emplace(p);
      else
        some_without_taps = true;
    });
  }

  template <class Body>
  void each(const ConvOperands<T>& o, const Body& body) const {
    for (Index i = 0; i < count; ++i) {
      const Part& part = *parts[i];
      Correlation<T> p = part.p;
      set_operands(s, o, p);
      body(Blocked<T>(p, part.cut));
    }
    if (some_without_taps && o.out != nullptr) write_without_taps(s, pass, o);
  }

 private:
  struct Part {
    Correlation<T> p;
    std::unique_ptr<Index[]> taps;
    typename Blocked<T>::Cut cut;

    explicit Part(const Correlation<T>& correlation)
        : p(correlation), taps(p.keep_taps()), cut(Blocked<T>::cut_of(p)) {}
  };

  // Each has a tap of its own.
  Index most_parts() const {
    const Index phases = std::min(s.stride_h, s.H) * std::min(s.stride_w, s.W);
    return pass == Pass::input_gradient ? std::min(phases, s.KH * s.KW) : 1;
  }

  ConvShape s;
  Pass pass;
  bool some_without_taps = false;
  Index count = 0;
  std::unique_ptr<std::optional<Part>[]> parts;
};

}  // namespace cnnlib::CNNLIB_ISA
