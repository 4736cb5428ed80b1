#include "kernels/conv/winograd_rows/winograd_rows.hpp"

#include "kernels/conv/winograd_rows/row_correlation.hpp"
#include "kernels/conv/winograd_rows/row_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_winograd_rows(ConvPlan& plan) {
  RowCorrelation<T>(plan.shape, {}).describe(plan);
}
template <class T>
void pack_winograd_rows(const ConvPlan& plan, const T* w, T* packed) {
  ConvOperands<T> operands{};
  operands.w = w;
  RowCorrelation<T>(plan.shape, operands).pack(packed);
}
template <class T>
void run_winograd_rows(const ConvPlan& plan, const ConvOperands<T>& operands) {
  const RowCorrelation<T> correlation(plan.shape, operands);
  operands.packed != nullptr ? correlation.run(operands.packed) : pack_and_run<T>(correlation);
}

template <class T>
void describe_winograd_rows_gradient(ConvPlan& plan) {
  RowGradient<T>(plan.shape, true).describe(plan);
}
template <class T>
void run_winograd_rows_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  RowGradient<T>(plan.shape, o.dw != nullptr).run(o);
}

#define INSTANTIATE(T)                                                      \
  template void describe_winograd_rows<T>(ConvPlan&);                       \
  template void pack_winograd_rows(const ConvPlan&, const T*, T*);          \
  template void run_winograd_rows(const ConvPlan&, const ConvOperands<T>&); \
  template void describe_winograd_rows_gradient<T>(ConvPlan&);              \
  template void run_winograd_rows_gradient(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
