#include "kernels/conv/first_layer/first_layer.hpp"

#include "kernels/conv/first_layer/col2im.hpp"
#include "kernels/conv/first_layer/dot_products.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_col2im(ConvPlan& plan) {
  Col2im<T>(plan.shape).describe(plan);
}
template <class T>
void pack_col2im(const ConvPlan& plan, const T* w, T* packed) {
  Col2im<T>(plan.shape).pack(w, packed);
}
template <class T>
void run_col2im(const ConvPlan& plan, const ConvOperands<T>& operands) {
  Col2im<T>(plan.shape).run(operands);
}

template <class T>
void describe_dot_products(ConvPlan& plan) {
  DotProducts<T>(plan.shape, true, true).describe(plan);
}
template <class T>
void run_dot_products(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  DotProducts<T>(plan.shape, o.dw != nullptr, o.db != nullptr).run(o);
}

#define INSTANTIATE(T)                                               \
  template void describe_col2im<T>(ConvPlan&);                       \
  template void pack_col2im(const ConvPlan&, const T*, T*);          \
  template void run_col2im(const ConvPlan&, const ConvOperands<T>&); \
  template void describe_dot_products<T>(ConvPlan&);                 \
  template void run_dot_products(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
