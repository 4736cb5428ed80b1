#include "arrays.hpp"

namespace cnnlib {
namespace {

// In-place updates by scale * dw: w and the state arrays have dw's shape and are writable (optim.py sees to
// both; mutable_data() refuses a read-only array).
template <class T>
void sgd_step(Array<T>& w, const Array<T>& dw, double scale, double rate) {
  require_shape("sgd", "dw", dw, w);
  T* to = w.mutable_data();
  const Index n = dw.size();
  unlocked([&] { kernels<T>().sgd_step(to, dw.data(), scale, rate, n); });
}

template <class T>
void momentum_step(Array<T>& w, const Array<T>& dw, double scale, Array<T>& velocity, double rate,
                   double momentum, bool nesterov) {
  require_shape("sgd_momentum", "dw", dw, w);
  require_shape("sgd_momentum", "velocity", velocity, w);
  T *to = w.mutable_data(), *v = velocity.mutable_data();
  const Index n = dw.size();
  unlocked([&] { kernels<T>().momentum_step(to, dw.data(), scale, v, rate, momentum, nesterov, n); });
}

template <class T>
void rmsprop_step(Array<T>& w, const Array<T>& dw, double scale, Array<T>& a, double rate, double decay,
                  double epsilon) {
  require_shape("rmsprop", "dw", dw, w);
  require_shape("rmsprop", "a", a, w);
  T *to = w.mutable_data(), *second = a.mutable_data();
  const Index n = dw.size();
  unlocked([&] { kernels<T>().rmsprop_step(to, dw.data(), scale, second, rate, decay, epsilon, n); });
}

template <class T>
void adam_step(Array<T>& w, const Array<T>& dw, double scale, Array<T>& v, Array<T>& a, double rate,
               double beta1, double beta2, double epsilon, double weight_decay, Index t) {
  require_shape("adam", "dw", dw, w);
  require_shape("adam", "v", v, w);
  require_shape("adam", "a", a, w);
  T *to = w.mutable_data(), *first = v.mutable_data(), *second = a.mutable_data();
  const Index n = dw.size();
  unlocked([&] {
    kernels<T>().adam_step(to, dw.data(), scale, first, second, rate, beta1, beta2, epsilon, weight_decay, t,
                           n);
  });
}

template <class T>
double sum_of_squares(const Array<T>& x) {
  double sum = 0;
  const Index n = x.size();
  unlocked([&] { sum = kernels<T>().sum_of_squares(x.data(), n); });
  return sum;
}

}  // namespace

template <class T>
void bind_update(py::module_& m) {
  const auto w = fixed("w"), dw = fixed("dw");
  const auto v = fixed("v"), a = fixed("a");
  const auto rate = py::arg("learning_rate"), epsilon = py::arg("epsilon");
  const auto scale = py::arg("scale");
  m.def("sgd_step", &sgd_step<T>, w, dw, scale, rate);
  m.def("momentum_step", &momentum_step<T>, w, dw, scale, fixed("velocity"), rate, py::arg("momentum"),
        py::arg("nesterov"));
  m.def("rmsprop_step", &rmsprop_step<T>, w, dw, scale, a, rate, py::arg("decay_rate"), epsilon);
  m.def("adam_step", &adam_step<T>, w, dw, scale, v, a, rate, py::arg("beta1"), py::arg("beta2"), epsilon,
        py::arg("weight_decay"), py::arg("t"));
  m.def("sum_of_squares", &sum_of_squares<T>, fixed("x"));
}

template void bind_update<float>(py::module_&);
template void bind_update<double>(py::module_&);

}  // namespace cnnlib
