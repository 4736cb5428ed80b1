// The passes of a convolution by their plans, and the table's entries for convolution.
#include "kernels/conv/conv.hpp"

#include "kernels.hpp"
#include "kernels/conv/plan.hpp"
#include "kernels/families.hpp"
#include "threads/sharing.hpp"

namespace cnnlib::CNNLIB_ISA {

namespace {

// body(row) with a plan's row of the table of the forward pass or dx.
template <class T, class Body>
void with_correlation(const ConvPlan& plan, const Body& body) {
  const auto find = [&](const auto& methods) {
    for (const auto& m : methods)
      if (m.method == plan.method) body(m);
  };
  plan.pass == Pass::forward ? find(forward_methods<T>) : find(input_gradient_methods<T>);
}

}  // namespace

// `packed` null: packs the weights for itself.
template <class T>
void run_conv(const ConvPlan& plan, const ConvOperands<T>& operands) {
  with_correlation<T>(plan, [&](const auto& m) { m.run(plan, operands); });
}

// Packs weights beforehand, plan.packed_bytes of them.
template <class T>
void pack_conv(const ConvPlan& plan, const T* w, T* packed) {
  with_correlation<T>(plan, [&](const auto& m) {
    if (m.pack != nullptr) m.pack(plan, w, packed);
  });
}

template <class T>
void run_weight_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  const ConvShape& s = plan.shape;
  for (const auto& m : weight_gradient_methods<T>) {
    if (m.method != plan.method) continue;
    m.run(plan, operands);
    if (!m.makes_db && operands.db != nullptr)
      bias_gradient(operands.dout, operands.db, s.N, s.F, s.OH * s.OW);
  }
}

namespace {

// Whether every thread had better pack all weights for itself, and take images of its own, than read what
// others packed: the slices are large, the weights are not, nor do they outweigh the input. (Winograd's cost
// a tile as much as eight of an image's filters.)
template <class T>
bool images_for_each_thread(const ConvPlan& plan, int threads) {
  constexpr Index fewest_positions = 64;
  constexpr double most_bytes = 8 << 20;
  constexpr std::size_t most_copied_bytes = 64 << 20;  // of all threads' packed weights
  const ConvShape& s = plan.shape;
  const bool even = s.N % threads == 0 || s.N >= 8 * threads;
  const double weights = double(s.F * (s.C / s.groups)) * double(s.KH * s.KW);
  const Index in = plan.pass == Pass::forward ? s.H * s.W : s.OH * s.OW;
  const Index out = plan.pass == Pass::forward ? s.F : s.C;
  const bool outweighed = plan.method == Method::winograd
                              ? out > 8 * s.N * ceil_div(s.OH, 4) * ceil_div(s.OW, 4)
                              : s.groups == 1 && out >= threads * 8 * Simd<T>::size &&
                                    double(out * s.KH * s.KW) > double(s.N * in);
  return even && s.N / threads * s.OH * s.OW >= fewest_positions && weights * sizeof(T) <= most_bytes &&
         !outweighed && describe_conv<T>(plan).packed_bytes * std::size_t(threads) <= most_copied_bytes;
}

// How many slices of the batch are packed for and computed by a thread each; 1 where all threads share.
template <class T>
int image_slices(const ConvPlan& plan) {
  const int threads = threads_for(conv_work(plan.shape));
  const bool apart = threads > 1 && images_for_each_thread<T>(plan, threads) && sharing_is_expensive(threads);
  return apart ? threads : 1;
}

template <class T>
void run_in_slices(const ConvPlan& plan, const ConvOperands<T>& operands) {
  const ConvShape& s = plan.shape;
  const int threads = image_slices<T>(plan);
  if (threads == 1) return run_conv(plan, operands);
  const bool forward = plan.pass == Pass::forward;
  const Index x_image = s.C * s.H * s.W, out_image = s.F * s.OH * s.OW;
  BatchSlices{s.N, threads}.each(s, conv_work(s), [&](Index, Index first, const ConvShape& part) {
    ConvPlan own = plan;
    own.shape = part;
    ConvOperands<T> images = operands;
    images.in += first * (forward ? x_image : out_image);
    images.out += first * (forward ? out_image : x_image);
    run_conv(own, images);
  });
}

// The plan of a pass with its tile, blocks, threads, and the bytes that all threads take.
template <class T>
ConvPlan explained_plan(const ConvShape& s, Pass pass) {
  ConvPlan plan = describe_conv<T>(plan_conv<T>(s, pass));
  const int slices = pass == Pass::weight_gradient ? 1 : image_slices<T>(plan);
  if (slices == 1) return plan;
  const SingleThread scope;
  ConvPlan own = plan;
  own.shape.N = ceil_div(s.N, slices);
  own = describe_conv<T>(own);
  plan.scratch_bytes = own.scratch_bytes * std::size_t(slices);
  plan.packed_bytes = own.packed_bytes * std::size_t(slices);
  return plan;
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
  run_in_slices<T>(plan_conv<T>(s, Pass::forward), {x, w, nullptr, {b, {relu}}, out});
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
  if (dx != nullptr) run_in_slices<T>(input, {dout, w, nullptr, {b}, dx});
  if (weights) run_weight_gradient<T>(weight, {x, dout, dw, db});
}

template <class T>
void run_prepared_conv(const ConvPlan& plan, const T* x, const T* w, const T* packed,
                       const ConvEpilogue<T>& e, T* out) {
  if (plan.shape.N == 0) return;
  run_conv<T>(plan, {x, w, plan.packed_bytes > 0 ? packed : nullptr, {e.b, {e.relu, e.most}, e.add}, out});
}

template <class T>
bool conv_adds(const ConvPlan& plan) {
  bool adds = false;
  with_correlation<T>(plan, [&](const auto& m) { adds = m.adds; });
  return adds;
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
      .conv_adds = &conv_adds<T>,
  };
}
template ConvKernels<float> conv_kernels();
template ConvKernels<double> conv_kernels();

template std::size_t conv_scratch_bytes<float>(const ConvShape&, Pass);
template std::size_t conv_scratch_bytes<double>(const ConvShape&, Pass);
template std::size_t gradient_scratch_bytes<float>(const ConvShape&);
template std::size_t gradient_scratch_bytes<double>(const ConvShape&);
template void conv_forward(const float*, const float*, const float*, float*, const ConvShape&, bool);
template void conv_forward(const double*, const double*, const double*, double*, const ConvShape&, bool);
template void conv_backward(const float*, const float*, const float*, const float*, float*, float*, float*,
                            const ConvShape&);
template void conv_backward(const double*, const double*, const double*, const double*, double*, double*,
                            double*, const ConvShape&);

}  // namespace cnnlib::CNNLIB_ISA
