#include "attention_shape.hpp"

namespace cnnlib {
namespace {

// q (N, heads, L, D), k (N, kv_heads, S, D), v (N, kv_heads, S, Dv), and a bias each of whose axes has the
// scores' size or 1.
AttentionShape attention_shape(Text function, const Floats& q, const Floats& k, const Floats& v,
                               const MaybeFloats& bias, double scale, bool causal) {
  for (const auto& [name, array] : {NamedArray{"q", q}, NamedArray{"k", k}, NamedArray{"v", v}}) {
    const Index* size = array.shape();
    require(array.ndim() == 4 && size[1] > 0 && size[2] > 0 && size[3] > 0, function, ": ", name,
            " must be (N, heads, tokens, features), none of them but N 0, got shape ", array);
  }
  AttentionShape s{q.shape(0), q.shape(1), k.shape(1),   q.shape(2), k.shape(2),
                   q.shape(3), v.shape(3), {1, 1, 1, 1}, scale,      causal};
  require(k.shape(0) == s.N && k.shape(3) == s.D, function, ": k must have the samples and features of q, ",
          q, ", got shape ", k);
  require(s.heads % s.kv_heads == 0, function, ": the heads of k must divide those of q, ", s.heads, ", got ",
          s.kv_heads);
  require(v.shape(0) == s.N && v.shape(1) == s.kv_heads && v.shape(2) == s.S, function,
          ": v must have the samples, heads and tokens of k, ", k, ", got shape ", v);
  return with_bias(function, s, bias);
}

// (out, copy, most, total), the last three for the backward pass, or None.
py::tuple attention_forward(Text function, const Floats& q, const Floats& k, const Floats& v,
                            const MaybeFloats& bias, double scale, bool causal, bool keep) {
  const AttentionShape s = attention_shape(function, q, k, v, bias, scale, causal);
  const FloatsResult out(function, {s.N, s.heads, s.L, s.Dv}, q),
      copy(function, {s.N, s.heads, s.L, s.Dv}, q, keep), most(function, {s.N, s.heads, s.L}, q, keep),
      total(function, {s.N, s.heads, s.L}, q, keep);
  unlocked(q,
           [&](const auto& kernels) { kernels.attention_forward(q, k, v, bias, out, copy, most, total, s); });
  return py::make_tuple(out, copy, most, total);
}

// (dq, dk, dv, dbias), the last one None unless it is wanted.
py::tuple attention_backward(Text function, const Floats& dout, const Floats& q, const Floats& k,
                             const Floats& v, const MaybeFloats& bias, double scale, bool causal,
                             const Floats& out, const Floats& most, const Floats& total, bool bias_gradient) {
  const AttentionShape s = attention_shape(function, q, k, v, bias, scale, causal);
  require_shapes(function, {s.N, s.heads, s.L, s.Dv}, {{"dout", dout}, {"out in cache", out}});
  require_shapes(function, {s.N, s.heads, s.L}, {{"most in cache", most}, {"total in cache", total}});
  const FloatsResult dq(function, q, q), dk(function, k, q), dv(function, v, q),
      dbias(function, {s.bias[0], s.bias[1], s.bias[2], s.bias[3]}, q, bool(bias) && bias_gradient);
  unlocked(q, [&](const auto& kernels) {
    kernels.attention_backward({dout, q, k, v, bias, out, most, total, dq, dk, dv, dbias}, s);
  });
  return py::make_tuple(dq, dk, dv, dbias);
}

}  // namespace

AttentionShape with_bias(Text function, AttentionShape s, const MaybeFloats& bias) {
  if (!bias) return s;
  const Index scores[] = {s.N, s.heads, s.L, s.S};
  bool fits = bias->ndim() == 4;
  for (int axis = 0; axis < 4 && fits; ++axis) {
    s.bias[axis] = bias->shape(axis);
    fits = s.bias[axis] == scores[axis] || s.bias[axis] == 1;
  }
  require(fits, function, ": bias must have the shape of the scores, ", ShapeView(scores, 4),
          ", or 1 in place of a size, got ", *bias);
  return s;
}

void bind_attention(py::module_& m) {
  def(m, "attention_forward(function, q, k, v, bias, scale, causal, keep)", &attention_forward);
  def(m, "attention_backward(function, dout, q, k, v, bias, scale, causal, out, most, total, bias_gradient)",
      &attention_backward);
}

}  // namespace cnnlib
