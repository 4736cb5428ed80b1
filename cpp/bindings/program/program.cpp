// Networks that give scores: cnnlib.graph puts a program's steps together, one call each.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

using Values = std::vector<std::tuple<int, Index, Index>>;

void require_value(bool condition, int value, const char* what) {
  require(condition, "prepare: value ", value, " ", what);
}

std::vector<Value> checked_values(const Values& of_values, Index item, Index input_bytes, Index output_bytes,
                                  Index arena) {
  for (const Index bytes : {input_bytes, output_bytes, arena})
    require(bytes >= 0 && bytes <= most_elements, "prepare: values of ", bytes, " bytes");
  std::vector<Value> values;
  for (const auto& [number, bytes, offset] : of_values) {
    const auto place = static_cast<Value::Place>(number);
    const bool inside = place == Value::Place::arena
                            ? bytes >= 0 && offset >= 0 && bytes <= arena && offset <= arena - bytes
                        : place == Value::Place::input  ? bytes == input_bytes
                        : place == Value::Place::output ? bytes == output_bytes
                                                        : false;
    require_value(inside && offset % item == 0, static_cast<int>(values.size()),
                  "does not lie inside of its place");
    values.push_back({place, bytes, offset});
  }
  return values;
}

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
bool conv_adds(const Floats& like, const Floats& w, const py::object& conv_param) {
  const ConvRequest request = conv_request("prepare", like, w, conv_param);
  const ConvRequest alone = network_request(request, false, false),
                    adding = network_request(request, false, true);
  return AnyKernels(w.single())([&](const auto& k) {
    return k.conv_fits(adding, Pass::forward, planned(k, alone, Pass::forward)->choice.method);
  });
}

}  // namespace

ConvRequest network_request(ConvRequest request, bool live, bool adds) {
  request.shape.N = 1;
  request.adds = adds;
  request.weights = live ? WeightUse::kept : WeightUse::streamed;
  return request;
}

bool are_arrays_of(const std::vector<py::object>& arrays, const std::vector<std::vector<Index>>& shapes,
                   bool single) {
  if (arrays.size() != shapes.size()) return false;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (!py::isinstance<Floats>(arrays[i])) return false;
    const auto array = py::reinterpret_borrow<Floats>(arrays[i]);
    const bool aligned = (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
    const ShapeView shape = array;
    if (array.single() != single || !aligned ||
        !std::equal(shapes[i].begin(), shapes[i].end(), shape.begin(), shape.end()))
      return false;
  }
  return true;
}

Index elements_of(const ShapeView& shape, Index least) {
  Index size = 1;
  for (const Index n : shape)
    if (n < least || __builtin_mul_overflow(size, n, &size) || size > most_elements) return -1;
  return size;
}

RowNormShape row_norm_shape(Text function, const std::array<Index, 5>& shape) {
  const auto [rows, channels, S, C, pixels] = shape;
  const RowNormShape s{rows, channels, S, C, pixels};
  const bool right = elements_of({s.rows, s.channels, s.S}) > 0 && s.C > 0 && s.C % s.channels == 0 &&
                     s.rows % (s.C / s.channels) == 0 &&
                     (s.pixels == 1 || (s.pixels == s.rows && s.channels == s.C && s.S == 1));
  require(right, function, ": rows of other channels: ", ShapeView(shape));
  return s;
}

BoundProgram::BoundProgram(const py::dtype& dtype, const Values& values, Index input_bytes,
                           Index output_bytes, Index arena_bytes, bool live)
    : Program(AnyKernels(is_single("prepare", dtype)),
              checked_values(values, dtype.itemsize(), input_bytes, output_bytes, arena_bytes), input_bytes,
              output_bytes, arena_bytes),
      live_(live) {}

int BoundProgram::takes(const Floats& array) {
  const ShapeView shape = array;
  if (live_) {
    shapes_.emplace_back(shape.begin(), shape.end());
    return static_cast<int>(shapes_.size()) - 1;
  }
  weights_.arrays.emplace_back(keep(array));
  return static_cast<int>(weights_.arrays.size()) - 1;
}

std::size_t BoundProgram::takes_statistics(Index C, const MaybeArray<double>& mean,
                                           const MaybeArray<double>& inv_std) {
  require(mean.has_value() != live_ && inv_std.has_value() != live_,
          "prepare: a live program reads running statistics at each call, another one has its own");
  if (live_) {
    channels_.push_back(C);
    return channels_.size() - 1;
  }
  require_shapes("prepare", {C}, {{"mean", *mean}, {"inv_std", *inv_std}});
  weights_.norms.push_back({keep(*mean), keep(*inv_std)});
  return weights_.norms.size() - 1;
}

void BoundProgram::pack_step(const Step& step, Weights& weights, WeightMemory& memory) {
  const Out packed = memory.take(step.weight_bytes);
  step.pack(weights, packed);
  weights.packed.push_back(packed);
}

std::size_t BoundProgram::bytes_of(int array) const {
  return static_cast<std::size_t>(elements_of(shapes_[static_cast<std::size_t>(array)], 0) * kernels.item());
}

bool BoundProgram::have_bits(const PackedArrays& before, const Weights& weights) const {
  for (const int i : packed_arrays_) {
    const void *then = before.copies[static_cast<std::size_t>(i)], *now = weights.array(i);
    if (std::memcmp(then, now, bytes_of(i)) != 0) return false;
  }
  return true;
}

// Packs copies, which say later of what: meanwhile another thread may write to the arrays.
std::shared_ptr<const PackedArrays> BoundProgram::packed(Weights& weights) const {
  const auto made = std::make_shared<PackedArrays>();
  made->copies.resize(shapes_.size());
  for (const int i : packed_arrays_) {
    const void* array = weights.array(i);
    made->copies[static_cast<std::size_t>(i)] =
        std::memcpy(made->memory.take(bytes_of(i)), array, bytes_of(i));
  }
  Weights copied{made->copies, weights.norms, {}};
  for (const Step& step : steps_)
    if (step.pack) pack_step(step, copied, made->memory);
  made->packed = std::move(copied.packed);
  return made;
}

std::unique_ptr<BoundWeights> BoundProgram::weights_of(const std::vector<py::object>& arrays,
                                                       const std::vector<RunningStatistics>& norms,
                                                       const BoundWeights* before) const {
  require(live_, "prepare: a prepared program has its weights");
  require(fits(arrays), "loss: parameters of other shapes or dtypes");
  require(norms.size() == channels_.size(), "loss: other norms");
  if (before != nullptr) require_own(*before);
  auto made = std::make_unique<BoundWeights>();
  made->program = this;
  made->arrays = arrays;
  Weights& weights = made->weights;
  for (const py::object& array : arrays) weights.arrays.emplace_back(py::reinterpret_borrow<Floats>(array));
  const Index channels = std::accumulate(channels_.begin(), channels_.end(), Index{0});
  made->statistics.resize(static_cast<std::size_t>(2 * channels));
  double* to = made->statistics.data();
  for (std::size_t i = 0; i < norms.size(); ++i) {
    const auto& [eps, mean, var] = norms[i];
    const Index C = channels_[i];
    require_one_dtype(*this, mean, var);
    require(mean.size() == C && var.size() == C, "loss: running statistics of other channels");
    by_type(kernels.single(), [&, &mean = mean, &var = var, eps = eps](auto zero) {
      using T = decltype(zero);
      const T *of_mean = mean, *of_var = var;
      std::copy(of_mean, of_mean + C, to);
      std::transform(of_var, of_var + C, to + C, [=](T v) { return 1 / std::sqrt(double(v) + eps); });
    });
    weights.norms.push_back({to, to + C});
    to += 2 * C;
  }
  unlocked([&] {
    const bool as_before = before != nullptr && have_bits(*before->packed, weights);
    made->packed = as_before ? before->packed : packed(weights);
  });
  weights.packed = made->packed->packed;
  return made;
}

Index BoundProgram::bytes_of_value(int value) const {
  require_value(value >= 0 && static_cast<std::size_t>(value) < values_.size(), value, "does not exist");
  return values_[static_cast<std::size_t>(value)].bytes;
}

void BoundProgram::reads(int input, Index bytes, const ShapeView& shape) const {
  const Index own = bytes_of_value(input);
  require(own == bytes, "prepare: a step takes a value of ", own, " bytes for one of shape ", shape);
}

void BoundProgram::writes(int output, Index bytes, const ShapeView& shape) const {
  reads(output, bytes, shape);
  require_value(values_[static_cast<std::size_t>(output)].place != Value::Place::input, output,
                "is the caller's, and not written to");
}

void BoundProgram::check_samples(const py::array& x, const ShapeView& shape) const {
  const Index N = x.ndim() > 0 ? x.shape(0) : -1;
  const Index item = kernels.item(), input_size = input_bytes_ / item;
  const bool samples =
      N >= 0 && N <= most_elements / std::max<Index>(1, input_size) && x.size() == N * input_size;
  require(samples, caller(), ": x has shape ", x);
  const bool result = shape.size() > 0 && *shape.begin() == N &&
                      elements_of({shape.begin() + 1, shape.size() - 1}, 0) * item == output_bytes_;
  require(result, caller(), ": a result of shape ", shape, " for x ", x);
}

void bind_program(py::module_& m) {
  using P = BoundProgram;
  def(m, "conv_adds(like, w, conv_param)", &conv_adds);
  py::class_<BoundWeights>(m, "Weights");
  py::class_<P> program(m, "Program");
  program
      .def(py::init<const py::dtype&, const Values&, Index, Index, Index, bool>(),
           Signature("(dtype, values, input_bytes, output_bytes, arena_bytes, live=False)"))
      .def("fits", &P::fits, Signature("(params)"))
      .def("weights", &P::weights_of, py::keep_alive<0, 1>(), Signature("(params, norms, before)"))
      .def("scores", &P::scores, Signature("(x, weights, shape)"))
      .def("run", &P::run, Signature("(x, shape)"))
      .def("run_bytes", &P::run_bytes, Signature("(x, mean, std, shape)"))
      .def("profile", &P::profile, Signature("(x, shape, repeats)"))
      .def_property_readonly("packed_bytes", [](const P& p) { return p.weight_bytes(); });
  bind_weighted_steps(program);
  bind_image_layers(program);
  bind_attention_layer(program);
  bind_tensor_steps(program);
  bind_elementwise_steps(program);
  bind_byte_steps(program);
  bind_bfloat16_steps(m, program);
}

}  // namespace cnnlib
