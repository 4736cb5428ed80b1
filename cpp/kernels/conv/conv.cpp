// The passes of a convolution by their plans, and the table's entries for convolution.
#include "kernels/conv/conv.hpp"

#include "kernels.hpp"
#include "kernels/conv/plan.hpp"
#include "kernels/conv/reshaped/gathered.hpp"
#include "kernels/conv/reshaped/single_row.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// A thread's plans, which it makes anew when others have taken their places: small convolutions take no
// longer than planning.
template <class Plan>
class RememberedPlans {
 public:
  template <class Make>
  const Plan& get(const ConvRequest& r, Pass pass, const Make& make) {
    auto& plan = plans[index_of(r.shape, pass)];
    const auto serves = [&](const ConvChoice& choice) {
      return choice.pass == pass && same_but_for_batch(choice.request, r) &&
             (pass != Pass::weight_gradient || choice.request.shape.N == r.shape.N);
    };
    if (plan == nullptr || !serves(plan->choice)) plan = make();
    return *plan;
  }

 private:
  static constexpr std::size_t count = 64;

  // Plans of large kernels, which may have a correlation for each tap, share a place.
  static std::size_t index_of(const ConvShape& s, Pass pass) {
    constexpr Index most_taps = 256;
    if (s.KH * s.KW > most_taps) return 0;
    return 1 + static_cast<std::size_t>(s.C * 31 + s.F * 17 + s.H * 7 + s.KH * 5 + s.stride_h * 3 +
                                        static_cast<Index>(pass) * 11) %
                   (count - 1);
  }

  std::unique_ptr<const Plan, DeletePlan> plans[count];
};

template <class T>
const ConvPlan<T>& correlation_plan(const ConvRequest& r, Pass pass) {
  static thread_local RememberedPlans<ConvPlan<T>> plans;
  return plans.get(r, pass, [&] { return make_plan<T>(r, pass); });
}
template <class T>
const GradientPlan<T>& gradient_plan(const ConvRequest& r) {
  static thread_local RememberedPlans<GradientPlan<T>> plans;
  return plans.get(r, Pass::weight_gradient, [&] { return make_gradient_plan<T>(r); });
}

// Returns the plan that makes dx and dw in one pass, or null if they take different methods.
template <class T>
const GradientPlan<T>* all_gradients_plan(const ConvRequest& r, const ConvChoice& input,
                                          const ConvChoice& weight) {
  static thread_local RememberedPlans<GradientPlan<T>> plans;
  if (!weight.makes_all || input.method != weight.method) return nullptr;
  return &plans.get(r, Pass::weight_gradient,
                    [&] { return row_of<T>(weight.method)->all_gradients(weight); });
}

template <class T>
std::pair<ConvChoice, ConvExplanation> explain_conv(const ConvRequest& r, Pass pass) {
  if (pass != Pass::weight_gradient) {
    const ConvPlan<T>& plan = correlation_plan<T>(r, pass);
    return {plan.choice, plan.explain(std::max<Index>(r.shape.N, 1))};
  }
  const GradientPlan<T>& plan = gradient_plan<T>(r);
  return {plan.choice, plan.explain()};
}

}  // namespace

template <class T>
std::size_t conv_scratch_bytes(const ConvRequest& r, Pass pass) {
  const ConvExplanation plan = explain_conv<T>(r, pass).second;
  return plan.scratch_bytes + plan.packed_bytes;
}

template <class T>
std::size_t gradient_scratch_bytes(const ConvRequest& r) {
  const auto* all = all_gradients_plan<T>(r, correlation_plan<T>(r, Pass::input_gradient).choice,
                                          gradient_plan<T>(r).choice);
  if (all != nullptr) return all->explain().scratch_bytes;
  return std::max(conv_scratch_bytes<T>(r, Pass::input_gradient),
                  conv_scratch_bytes<T>(r, Pass::weight_gradient));
}

template <class T>
void conv_forward(const T* x, const T* w, const T* b, T* out, const ConvRequest& r,
                  const Clamp<T>& activation) {
  if (r.shape.N == 0) return;
  correlation_plan<T>(r, Pass::forward).run({r.shape.N, x, w, nullptr, {b, false, activation}, out});
}

template <class T>
void conv_backward(const GradientOperands<T>& o, const ConvRequest& r) {
  const ConvShape& s = r.shape;
  if (s.N == 0) {
    if (o.dw != nullptr) std::fill_n(o.dw, s.F * (s.C / s.groups) * s.KH * s.KW, T(0));
    if (o.db != nullptr) std::fill_n(o.db, s.F, T(0));
    return;
  }
  const bool weights = o.dw != nullptr || o.db != nullptr;
  if (o.dx != nullptr) {
    const ConvPlan<T>& input = correlation_plan<T>(r, Pass::input_gradient);
    if (weights)
      if (const auto* all = all_gradients_plan<T>(r, input.choice, gradient_plan<T>(r).choice))
        return all->run(o);
    input.run({s.N, o.dout, o.w, nullptr, {o.bias}, o.dx});
  }
  if (weights) gradient_plan<T>(r).run(o);
}

template <class T>
ConvKernels<T> conv_kernels() {
  return {
      .conv_forward = &conv_forward<T>,
      .conv_backward = &conv_backward<T>,
      .bias_gradient = &bias_gradient<T>,
      .conv_fits = &fits<T>,
      .explain_conv = &explain_conv<T>,
      .conv_costs = &plan_costs<T>,
      .plan_conv = [](const ConvRequest& r, Pass pass) { return make_plan<T>(r, pass).release(); },
  };
}
template ConvKernels<float> conv_kernels();
template ConvKernels<double> conv_kernels();

#define INSTANTIATE(T)                                                                               \
  template std::size_t conv_scratch_bytes<T>(const ConvRequest&, Pass);                              \
  template std::size_t gradient_scratch_bytes<T>(const ConvRequest&);                                \
  template void conv_forward(const T*, const T*, const T*, T*, const ConvRequest&, const Clamp<T>&); \
  template void conv_backward(const GradientOperands<T>&, const ConvRequest&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
