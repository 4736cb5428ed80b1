// The steps of the direct methods, which compute a pass as one correlation or several.
#pragma once

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
        value = p.epilogue.activation(p.epilogue.add ? bias + value : bias);
      }
  });
}

// The steps of a method of which Blocked<T> computes one correlation.
template <class T, template <class> class Blocked>
struct EachCorrelation : StepsOfEach<T, EachCorrelation<T, Blocked>> {
  template <class Body>
  static void each(const ConvPlan& plan, const ConvOperands<T>& operands, const Body& body) {
    each_correlation<T>(plan.shape, plan.pass, [&](Correlation<T>& p) {
      p.x = operands.in;
      p.w = operands.w;
      p.w_end = after(operands.w, p.weights);
      p.epilogue = operands.epilogue;
      p.out = after(operands.out, p.out_first);
      p.prepacked = plan.prepacked;
      if (p.taps() > 0)
        body(Blocked<T>(p));
      else if (p.out != nullptr)
        write_bias(p);
    });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
