// The passes of a convolution by their plans, and the table's entries for convolution.
#include "kernels/conv/conv.hpp"

#include "kernels.hpp"
#include "kernels/conv/plan.hpp"
#include "kernels/conv/reshaped/gathered.hpp"
#include "kernels/conv/reshaped/single_row.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

// `packed` null: packs the weights for itself.
template <class T>
void run_conv(const ConvPlan& plan, const ConvOperands<T>& operands) {
  row_of<T>(plan.method)->correlation().run(plan, operands);
}

// Packs weights beforehand, plan.packed_bytes of them.
template <class T>
void pack_conv(const ConvPlan& plan, const T* w, T* packed) {
  if (const auto pack = row_of<T>(plan.method)->correlation().pack) pack(plan, w, packed);
}

template <class T>
void run_weight_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  const ConvShape& s = plan.shape;
  const auto method = row_of<T>(plan.method)->weight_gradient();
  method.run(plan, operands);
  if (!method.makes_db && operands.db != nullptr)
    bias_gradient(operands.dout, operands.db, s.N, s.F, s.OH * s.OW);
}

namespace {

// A plan of a pass with its tile, blocks, threads and bytes.
template <class T>
ConvPlan explained_plan(const ConvShape& s, Pass pass) {
  return describe_conv<T>(plan_conv<T>(s, pass));
}

// Whether one pass makes dx and dw.
bool in_one_pass(const ConvPlan& input, const ConvPlan& weight) {
  return input.method == weight.method &&
         (input.method == Method::depthwise_rows || input.method == Method::depthwise_channels);
}

}  // namespace

template <class T>
std::size_t conv_scratch_bytes(const ConvShape& s, Pass pass) {
  const ConvPlan plan = explained_plan<T>(s, pass);
  return plan.scratch_bytes + plan.packed_bytes;
}

template <class T>
std::size_t gradient_scratch_bytes(const ConvShape& s) {
  ConvPlan input = plan_conv<T>(s, Pass::input_gradient);
  if (!in_one_pass(input, plan_conv<T>(s, Pass::weight_gradient)))
    return std::max(conv_scratch_bytes<T>(s, Pass::input_gradient),
                    conv_scratch_bytes<T>(s, Pass::weight_gradient));
  describe_depthwise_gradients<T>(input, true, true);
  return input.scratch_bytes;
}

template <class T>
void conv_forward(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  if (s.N == 0) return;
  run_conv<T>(plan_conv<T>(s, Pass::forward), {x, w, nullptr, {b, {relu}}, out});
}

template <class T>
void conv_backward(const T* x, const T* w, const T* dout, const T* b, T* dx, T* dw, T* db,
                   const ConvShape& s) {
  if (s.N == 0) {
    if (dw != nullptr) std::fill_n(dw, s.F * (s.C / s.groups) * s.KH * s.KW, T(0));
    if (db != nullptr) std::fill_n(db, s.F, T(0));
    return;
  }
  const auto plan_of = [&](Pass pass, bool wanted) { return wanted ? plan_conv<T>(s, pass) : ConvPlan{}; };
  const bool weights = dw != nullptr || db != nullptr;
  const ConvPlan input = plan_of(Pass::input_gradient, dx != nullptr),
                 weight = plan_of(Pass::weight_gradient, weights);
  if (in_one_pass(input, weight)) return run_depthwise_backward<T>(input, {x, w, dout, b, dx, dw, db});
  if (dx != nullptr) run_conv<T>(input, {dout, w, nullptr, {b}, dx});
  if (weights) run_weight_gradient<T>(weight, {x, dout, dw, db});
}

template <class T>
void run_prepared_conv(const ConvPlan& plan, const T* x, const T* w, const T* packed,
                       const ConvEpilogue<T>& e, T* out) {
  if (plan.shape.N == 0) return;
  run_conv<T>(plan, {x, w, plan.packed_bytes > 0 ? packed : nullptr, {e.b, {e.relu, e.most}, e.add}, out});
}

template <class T>
ConvKernels<T> conv_kernels() {
  return {
      .conv_forward = &conv_forward<T>,
      .conv_backward = &conv_backward<T>,
      .bias_gradient = &bias_gradient<T>,
      .conv_fits = &fits<T>,
      .conv_plan = &explained_plan<T>,
      .conv_costs = &plan_costs<T>,
      .prepare_conv = &plan_prepared_conv<T>,
      .prepare_network_conv = &plan_network_conv<T>,
      .pack_conv = &pack_conv<T>,
      .run_prepared_conv = &run_prepared_conv<T>,
  };
}
template ConvKernels<float> conv_kernels();
template ConvKernels<double> conv_kernels();

#define INSTANTIATE(T)                                                                  \
  template std::size_t conv_scratch_bytes<T>(const ConvShape&, Pass);                   \
  template std::size_t gradient_scratch_bytes<T>(const ConvShape&);                     \
  template void conv_forward(const T*, const T*, const T*, T*, const ConvShape&, bool); \
  template void conv_backward(const T*, const T*, const T*, const T*, T*, T*, T*, const ConvShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
