// db[f] = sum over n and positions of dout[n, f], dout (N, F, plane).
#pragma once

#include "conv_plan.hpp"
#include "kernels/channel_parts.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

struct ChannelSum {
  double value = 0;
  void add(const ChannelSum& more) { value += more.value; }
};

inline std::size_t bias_gradient_bytes(const ConvShape& s) {
  return ScratchArray<ChannelSum>::bytes(ChannelParts{{s.N, s.F, s.OH * s.OW}}.parts * s.F);
}

template <class T>
[[gnu::noinline]] void bias_gradient(const T* dout, T* db, Index N, Index F, Index plane) {
  if (N * plane == 0) return void(std::fill_n(db, F, T(0)));
  const ChannelParts parts{{N, F, plane}};
  const ScratchArray<ChannelSum> memory(parts.parts * F);
  ChannelSum* partial = memory.data();
  sum_channels(parts, partial, [=](Index, Index at, Index planes, Index size) {
    ChannelSum total;
    for (Index n = 0; n < planes; ++n) total.value += sum(dout + at + n * F * plane, size);
    return total;
  });
  add_parts_up(parts.parts, F, partial, [=](Index f, const ChannelSum& total) { db[f] = T(total.value); });
}
// The last step of a plan whose method makes dw alone.
template <class T>
void bias_gradient(const ConvShape& s, const GradientOperands<T>& o) {
  if (o.db != nullptr) bias_gradient(o.dout, o.db, s.N, s.F, s.OH * s.OW);
}

}  // namespace cnnlib::CNNLIB_ISA
