#include "arrays.hpp"

namespace cnnlib {
namespace {

// In-place updates by scale * dw: w and the state arrays have dw's shape and are writable (optim.py sees to
// both; mutable_data() refuses a read-only array).
void sgd_step(Floats& w, const Floats& dw, double scale, double rate) {
  require_shape("sgd", "dw", dw, w);
  const Out to = w.mutable_data();
  const Index n = dw.size();
  unlocked(w, [&](const auto& k) { k.sgd_step(to, dw, scale, rate, n); });
}

void momentum_step(Floats& w, const Floats& dw, double scale, Floats& velocity, double rate, double momentum,
                   bool nesterov) {
  require_shapes("sgd_momentum", w, {{"dw", dw}, {"velocity", velocity}});
  const Out to = w.mutable_data(), v = velocity.mutable_data();
  const Index n = dw.size();
  unlocked(w, [&](const auto& k) { k.momentum_step(to, dw, scale, v, rate, momentum, nesterov, n); });
}

void rmsprop_step(Floats& w, const Floats& dw, double scale, Floats& a, double rate, double decay,
                  double epsilon) {
  require_shapes("rmsprop", w, {{"dw", dw}, {"a", a}});
  const Out to = w.mutable_data(), second = a.mutable_data();
  const Index n = dw.size();
  unlocked(w, [&](const auto& k) { k.rmsprop_step(to, dw, scale, second, rate, decay, epsilon, n); });
}

void adam_step(Floats& w, const Floats& dw, double scale, Floats& v, Floats& a, double rate, double beta1,
               double beta2, double epsilon, double weight_decay, Index t) {
  require_shapes("adam", w, {{"dw", dw}, {"v", v}, {"a", a}});
  const Out to = w.mutable_data(), first = v.mutable_data(), second = a.mutable_data();
  const Index n = dw.size();
  unlocked(w, [&](const auto& k) {
    k.adam_step(to, dw, scale, first, second, rate, beta1, beta2, epsilon, weight_decay, t, n);
  });
}

double sum_of_squares(const Floats& x) {
  double sum = 0;
  const Index n = x.size();
  unlocked(x, [&](const auto& k) { sum = k.sum_of_squares(x, n); });
  return sum;
}

}  // namespace

void bind_update(py::module_& m) {
  def(m, "sgd_step(w, dw, scale, learning_rate)", &sgd_step);
  def(m, "momentum_step(w, dw, scale, velocity, learning_rate, momentum, nesterov)", &momentum_step);
  def(m, "rmsprop_step(w, dw, scale, a, learning_rate, decay_rate, epsilon)", &rmsprop_step);
  def(m, "adam_step(w, dw, scale, v, a, learning_rate, beta1, beta2, epsilon, weight_decay, t)", &adam_step);
  def(m, "sum_of_squares(x)", &sum_of_squares);
}

}  // namespace cnnlib
