// Attention as a step of prepared networks and of training. It reads three values.
#include "../attention_shape.hpp"
#include "../program/bound_program.hpp"
#include "../training/bound_training.hpp"

namespace cnnlib {
namespace {

// heads, kv_heads, L, S, D and Dv, of a sample.
using Sizes = std::array<Index, 6>;

// The shape of one sample. All samples share one bias.
AttentionShape shape_of(Text function, const Sizes& sizes, const MaybeFloats& bias, double scale,
                        bool causal) {
  const auto [heads, kv_heads, L, S, D, Dv] = sizes;
  require(elements_of(sizes) > 0 && heads % kv_heads == 0, function, ": attention of sizes ", sizes);
  return with_bias(function, {1, heads, kv_heads, L, S, D, Dv, {1, 1, 1, 1}, scale, causal}, bias);
}
AttentionShape of_samples(AttentionShape s, Index N) {
  s.N = N;
  return s;
}

void attention_step(BoundProgram& p, const std::string& name, const std::array<int, 3>& inputs, int output,
                    const Sizes& sizes, const MaybeFloats& bias, double scale, bool causal) {
  const AttentionShape s = shape_of("prepare", sizes, bias, scale, causal);
  const auto [q, k, v] = inputs;
  p.reads(q, {s.heads, s.L, s.D});
  p.reads(k, {s.kv_heads, s.S, s.D});
  p.reads_and_writes(v, {s.kv_heads, s.S, s.Dv}, output, {s.heads, s.L, s.Dv});
  const In kept = bias ? In(p.keep(*bias)) : In();
  const double scores = double(s.heads) * double(s.L) * double(s.S);
  p.add_step(name, scores * double(s.D + s.Dv) / 8,
             [=, q = q, k = k, v = v](const auto& kernels, const Frame& f) {
               kernels.attention_forward(f.read(q), f.read(k), f.read(v), kept, f.write(output), nullptr,
                                         nullptr, nullptr, of_samples(s, f.images));
             });
}

void attention_layer(BoundTraining& p, const std::array<int, 3>& inputs, int out, const Sizes& sizes,
                     const MaybeFloats& bias, double scale, bool causal) {
  const AttentionShape s = shape_of("loss", sizes, bias, scale, causal);
  const auto [q, k, v] = inputs;
  p.reads(q, {s.heads, s.L, s.D});
  p.reads(k, {s.kv_heads, s.S, s.D});
  p.reads(v, {s.kv_heads, s.S, s.Dv});
  p.makes(out, {s.heads, s.L, s.Dv});
  const std::array<bool, 3> wanted{p.wants(q), p.wants(k), p.wants(v)};
  const In kept = p.keep(bias);
  const Index rows = s.heads * s.L;
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const std::array<Memory<void>, 3> xs{batch.value(inputs[0]), batch.value(inputs[1]),
                                         batch.value(inputs[2])};
    batch.make(out);
    const Memory<void> y = batch.value(out);
    const Index bytes = batch.N * rows * batch.kernels.item();
    const Memory<void> most = new_memory<char>(bytes), total = new_memory<char>(bytes);
    const AttentionShape own = of_samples(s, batch.N);
    batch.kernels([&](const auto& kernels) {
      kernels.attention_forward(In(xs[0]), In(xs[1]), In(xs[2]), kept, Out(y), nullptr, Out(most), Out(total),
                                own);
    });
    return [=](Batch& taken) {
      const Memory<void> dout = taken.take_gradient(out);
      const std::array<Memory<void>, 3> dxs{taken.like(inputs[0]), taken.like(inputs[1]),
                                            taken.like(inputs[2])};
      taken.kernels([&](const auto& kernels) {
        kernels.attention_backward({In(dout), In(xs[0]), In(xs[1]), In(xs[2]), kept, In(y), In(most),
                                    In(total), Out(dxs[0]), Out(dxs[1]), Out(dxs[2]), nullptr},
                                   own);
      });
      for (std::size_t i = 0; i < 3; ++i)
        if (wanted[i]) taken.add_gradient(inputs[i], dxs[i]);
    };
  });
}

}  // namespace

void bind_attention_layer(py::class_<BoundProgram>& program) {
  def(program, "attention(name, inputs, output, sizes, bias, scale, causal)", &attention_step);
}
void bind_attention_layer(py::class_<BoundTraining>& program) {
  def(program, "attention(xs, out, sizes, bias, scale, causal)", &attention_layer);
}

}  // namespace cnnlib
