// A program with the arrays that its steps point into. Steps are checked once, as they are added.
#pragma once

#include <memory>
#include <numeric>

#include "../inference/weight_memory.hpp"
#include "inverted_residual_shape.hpp"
#include "pool_shape.hpp"
#include "program_checks.hpp"

namespace cnnlib {

// How a convolution with weights that stay packed is computed. Winograd's, of which a network has more than a
// cache holds, come from memory for every batch: the smaller tile has fewer, and at stride 2, where they are
// four times the direct methods', a single image waits for them and many are no faster (bench/NOTES.md).
template <class T>
ConvPlan plan_prepared(const Kernels<T>& kernels, ConvShape s) {
  constexpr std::size_t most_cached_bytes = 8 << 20, most_strided_bytes = 16 << 20;
  s.N = 1;
  const ConvPlan plan = kernels.prepare_conv(s);
  const bool strided = s.stride_h > 1;
  if (plan.method != Method::winograd ||
      plan.packed_bytes <= (strided ? most_strided_bytes : most_cached_bytes))
    return plan;
  if (!strided)
    s.few_weights = true;
  else if (s.algorithm == Method::automatic)
    s.algorithm = Method::direct;
  return kernels.prepare_conv(s);
}

// Arrays `like` of no images tell what shape an image of the step's input has.
template <class T>
class BoundProgram {
 public:
  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset.
  BoundProgram(const std::vector<std::tuple<int, Index, Index>>& values, Index input_size, Index output_size,
               Index arena)
      : input_size_(input_size),
        output_size_(output_size),
        program_(kernels_, list(values), input_size, output_size, arena) {
    check_values(program_.values(), input_size, output_size, arena);
  }

  void conv(const std::string& name, int input, int output, const Array<T>& like, const Array<T>& w,
            const MaybeArray<T>& b, const py::object& conv_param, bool add, bool relu, double most) {
    ConvShape s = conv_shape("prepare", like, w, conv_param);
    s.N = 1;
    reads_and_writes(input, {s.C, s.H, s.W}, output, {s.F, s.OH, s.OW});
    if (b) require_shape("prepare", "b", *b, {s.F});
    const Kernels<T>& k = kernels_;
    const ConvPlan plan = plan_prepared(k, s);
    require(!add || k.conv_adds(plan), [] { return "prepare: a convolution that cannot add to its output"; });
    const T* weights = w.data();
    T* const packed = new_weights(plan.packed_bytes);
    k.pack_conv(plan, weights, packed);
    const ConvEpilogue<T> epilogue{data_or_null(b), add, relu, static_cast<T>(most)};
    keep(w, b);
    add_step(
        name + " [" + name_of(plan.method) + "]", products(s) / 8,
        [=, &k](const Frame<T>& f) {
          ConvPlan own = plan;
          own.shape.N = f.images;
          k.run_prepared_conv(own, f.read(input), weights, packed, epilogue, f.write(output));
        },
        plan.packed_bytes);
  }

  // `layers` are (w, b, relu, most) of the three convolutions, conv_param the depthwise one's. `other` is a
  // value to add to the result, or -1.
  using Layer = InvertedResidualLayer<T>;
  void inverted_residual(const std::string& name, int input, int other, int output, const Array<T>& like,
                         const std::array<Layer, 3>& layers, const py::object& conv_param) {
    const InvertedResidualShape s = inverted_residual_shape(like, layers, conv_param);
    const ConvShape& d = s.depthwise;
    reads_and_writes(input, {s.C, d.H, d.W}, output, {s.F, d.OH, d.OW});
    if (other >= 0) check_read(program_.values(), other, {s.F, d.OH, d.OW});
    const auto own = [&](const Layer& layer) {
      const auto& [w, b, relu, most] = layer;
      keep(w, b);
      return typename InvertedResidualLayers<T>::Layer{w.data(), {data_or_null(b), false, relu, T(most)}};
    };
    const InvertedResidualLayers<T> all{own(layers[0]), own(layers[1]), own(layers[2])};
    const Kernels<T>& k = kernels_;
    const std::size_t bytes = checked_product(k.inverted_residual_packed_size(s), sizeof(T));
    T* const packed = new_weights(bytes);
    k.pack_inverted_residual(s, all, packed);
    const double work = products(d) + double(d.C) * double(s.F * d.OH * d.OW + s.C * d.H * d.W);
    add_step(
        name + " [inverted-residual]", work / 8,
        [=, &k](const Frame<T>& f) {
          InvertedResidualShape images = s;
          images.N = f.images;
          k.run_inverted_residual(images, all, packed, f.read(input), other < 0 ? nullptr : f.read(other),
                                  f.write(output));
        },
        bytes);
  }

  void conv_transpose(const std::string& name, int input, int output, const Array<T>& like, const Array<T>& w,
                      const MaybeArray<T>& b, const py::object& conv_param) {
    const ConvShape s = conv_transpose_shape("prepare", like, w, conv_param);
    reads_and_writes(input, {s.F, s.OH, s.OW}, output, {s.C, s.H, s.W});
    if (b) require_shape("prepare", "b", *b, {s.C});
    const Kernels<T>& k = kernels_;
    const T *weights = w.data(), *bias = data_or_null(b);
    keep(w, b);
    ConvShape one = s;
    one.N = 1;
    add_step(name, products(one) / 8, [=, &k](const Frame<T>& f) {
      ConvShape own = s;
      own.N = f.images;
      k.conv_backward(nullptr, weights, f.read(input), bias, f.write(output), nullptr, nullptr, own);
    });
  }

  void affine(const std::string& name, int input, int output, const Array<T>& w, const MaybeArray<T>& b,
              bool relu) {
    require(w.ndim() == 2, [&] { return "prepare: w must have shape (D, M), got " + text(w); });
    const Index D = w.shape(0), M = w.shape(1);
    reads_and_writes(input, {D}, output, {M});
    if (b) require_shape("prepare", "b", *b, {M});
    const Kernels<T>& k = kernels_;
    const T *weights = w.data(), *bias = data_or_null(b);
    keep(w, b);
    add_step(name, double(D) * double(M) / 8, [=, &k](const Frame<T>& f) {
      k.affine_forward(f.read(input), weights, bias, f.write(output), {f.images, D, M, false}, relu);
    });
  }

  void max_pool(const std::string& name, int input, int output, const Array<T>& like,
                const PoolGeometry& geometry, bool ceil_mode) {
    pool(name, input, output, like.shape(1), pool_shape("prepare", like, geometry, ceil_mode, false),
         kernels_.max_pool_values);
  }

  void avg_pool(const std::string& name, int input, int output, const Array<T>& like,
                const PoolGeometry& geometry, bool ceil_mode, bool count_include_pad) {
    pool(name, input, output, like.shape(1),
         pool_shape("prepare", like, geometry, ceil_mode, count_include_pad), kernels_.avg_pool_forward);
  }

  void global_avg_pool(const std::string& name, int input, int output, Index C, Index S) {
    reads_and_writes(input, {C, S}, output, {C});
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
      k.global_avg_pool_forward(f.read(input), f.write(output), C * f.images, S);
    });
  }

  // By the statistics (C,) of a batch norm over images (C, S).
  void normalize(const std::string& name, int input, int output, Index S, const Array<double>& mean,
                 const Array<double>& inv_std, const Array<T>& gamma, const Array<T>& beta, bool relu) {
    const Index C = gamma.size();
    reads_and_writes(input, {C, S}, output, {C, S});
    for (const py::array& array : std::initializer_list<py::array>{mean, inv_std, gamma, beta})
      require_shape("prepare", "an array of a norm", array, {C});
    const double *m = mean.data(), *i = inv_std.data();
    const T *g = gamma.data(), *b = beta.data();
    keep(mean, inv_std, gamma, beta);
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
      k.batchnorm_normalize(f.read(input), m, i, g, b, f.write(output), {f.images, C, S}, relu);
    });
  }

  void row_norm(const std::string& name, int input, int output, const std::array<Index, 4>& shape, double eps,
                const Array<T>& gamma, const Array<T>& beta) {
    const auto [rows, channels, S, C] = shape;
    reads_and_writes(input, {rows, channels, S}, output, {rows, channels, S});
    require(C >= 1 && rows * channels % C == 0, [] { return "prepare: rows of other channels"; });
    require_shape("prepare", "gamma", gamma, {C});
    require_shape("prepare", "beta", beta, {C});
    const T *g = gamma.data(), *b = beta.data();
    keep(gamma, beta);
    const Kernels<T>& k = kernels_;
    const Index of_image = rows;
    add_step(name, double(rows * channels) * double(S) / 2,
             [=, &k, channels = channels, S = S, C = C](const Frame<T>& f) {
               const Index all = of_image * f.images;
               std::vector<double> statistics(static_cast<std::size_t>(2 * all));
               k.rownorm_forward(f.read(input), g, b, eps, f.write(output), statistics.data(),
                                 statistics.data() + all, {all, channels, S, C});
             });
  }

  // Over the channels of each pixel of images (C, S).
  void pixel_norm(const std::string& name, int input, int output, Index S, double eps, const Array<T>& gamma,
                  const Array<T>& beta) {
    const Index C = gamma.size();
    reads_and_writes(input, {C, S}, output, {C, S});
    require_shape("prepare", "gamma", gamma, {C});
    require_shape("prepare", "beta", beta, {C});
    const T *g = gamma.data(), *b = beta.data();
    keep(gamma, beta);
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 2, [=, &k](const Frame<T>& f) {
      k.pixel_norm_forward(f.read(input), g, b, eps, f.write(output), f.images, C, S);
    });
  }

  // b as large as a, or a value for each of its `planes`.
  void sum(const std::string& name, int a, int b, int output, Index planes, bool relu) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    join(a, b, output, planes);
    if (size_of(b) != size)
      return add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
        k.spread_add(f.read(a), f.read(b), f.write(output), planes * f.images, size / planes);
        if (relu) k.relu_forward(f.write(output), f.write(output), size * f.images);
      });
    add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
      (relu ? k.add_relu : k.add)(f.read(a), f.read(b), f.write(output), size * f.images);
    });
  }

  void product(const std::string& name, int a, int b, int output, Index planes) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    join(a, b, output, planes);
    if (size_of(b) != size)
      return add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
        k.spread_multiply(f.read(a), f.read(b), f.write(output), planes * f.images, size / planes);
      });
    add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
      k.multiply(f.read(a), f.read(b), f.write(output), size * f.images);
    });
  }

  // alpha is elu's.
  void activation(const std::string& name, int input, int output, Activation kind, double alpha) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    reads_and_writes(input, {size}, output, {size});
    add_step(name, double(size), [=, &k](const Frame<T>& f) {
      k.activation_forward(kind, f.read(input), f.write(output), nullptr, static_cast<T>(alpha),
                           size * f.images);
    });
  }

  // Over the axis of C of images (C, S).
  void softmax(const std::string& name, int input, int output, Index C, Index S) {
    reads_and_writes(input, {C, S}, output, {C, S});
    const Kernels<T>& k = kernels_;
    add_step(name, double(C * S), [=, &k](const Frame<T>& f) {
      k.softmax_forward(f.read(input), f.write(output), nullptr, f.images, C, S);
    });
  }

  void adaptive_avg_pool(const std::string& name, int input, int output, const AdaptivePoolShape& s) {
    reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.OH, s.OW});
    const Kernels<T>& k = kernels_;
    add_step(name, double(s.planes * s.H * s.W) / 4, [=, &k](const Frame<T>& f) {
      AdaptivePoolShape own = s;
      own.planes *= f.images;
      k.adaptive_avg_pool_forward(f.read(input), f.write(output), own);
    });
  }

  void adaptive_max_pool(const std::string& name, int input, int output, const AdaptivePoolShape& s) {
    reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.OH, s.OW});
    const Kernels<T>& k = kernels_;
    add_step(name, double(s.planes * s.H * s.W) / 4, [=, &k](const Frame<T>& f) {
      AdaptivePoolShape own = s;
      own.planes *= f.images;
      std::vector<std::int64_t> places(static_cast<std::size_t>(own.planes * s.OH * s.OW));
      k.adaptive_max_pool_forward(f.read(input), f.write(output), places.data(), own);
    });
  }

  void upsample(const std::string& name, int input, int output, const UpsampleShape& s, bool bilinear) {
    reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.H, s.scale_h, s.W, s.scale_w});
    const Kernels<T>& k = kernels_;
    add_step(name, double(s.planes * s.H * s.scale_h * s.W * s.scale_w) / 4, [=, &k](const Frame<T>& f) {
      UpsampleShape own = s;
      own.planes *= f.images;
      (bilinear ? k.upsample_bilinear_forward : k.upsample_nearest_forward)(f.read(input), f.write(output),
                                                                            own);
    });
  }

  void relu(const std::string& name, int input, int output) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    reads_and_writes(input, {size}, output, {size});
    add_step(name, double(size) / 4,
             [=, &k](const Frame<T>& f) { k.relu_forward(f.read(input), f.write(output), size * f.images); });
  }

  void leaky_relu(const std::string& name, int input, int output, double alpha) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    reads_and_writes(input, {size}, output, {size});
    add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
      k.leaky_relu_forward(f.read(input), f.write(output), static_cast<T>(alpha), size * f.images);
    });
  }

  void concat(const std::string& name, const std::vector<int>& inputs, int output) {
    std::vector<Index> sizes;
    for (const int input : inputs) sizes.push_back(size_of(input));
    const Index size = size_of(output);
    for (std::size_t i = 0; i < inputs.size(); ++i) check_read(program_.values(), inputs[i], {sizes[i]});
    check_written(program_.values(), output, {std::accumulate(sizes.begin(), sizes.end(), Index{0})});
    add_step(name, double(size) / 4, [=](const Frame<T>& f) {
      for (Index n = 0; n < f.images; ++n) {
        T* to = f.write(output) + n * size;
        for (std::size_t i = 0; i < inputs.size(); ++i)
          to = std::copy_n(f.read(inputs[i]) + n * sizes[i], sizes[i], to);
      }
    });
  }

  py::array run(const Array<T>& x, const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    Array<T> out = new_array<T>("Predictor", shape);
    T* y = out.mutable_data();
    const T* images = x.data();
    const Index N = x.shape(0);
    unlocked([&] { program_.run({images, nullptr, nullptr, nullptr, 0, 0}, y, N); });
    return out;
  }

  // Of uint8 images (N, C, S).
  py::array run_bytes(const Array<std::uint8_t>& x, const Array<T>& mean, const Array<T>& std,
                      const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    require(x.ndim() == 3, [&] { return "Predictor: x must have shape (N, C, S), got " + text(x); });
    require_shape("Predictor", "mean", mean, {x.shape(1)});
    require_shape("Predictor", "std", std, {x.shape(1)});
    Array<T> out = new_array<T>("Predictor", shape);
    T* y = out.mutable_data();
    const Samples<T> images{nullptr, x.data(), mean.data(), std.data(), x.shape(1), x.shape(2)};
    const Index N = x.shape(0);
    unlocked([&] { program_.run(images, y, N); });
    return out;
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Array<T>& x, const std::vector<Index>& shape, int repeats) const {
    check_samples(x, input_size_, shape, output_size_);
    Array<T> out = new_array<T>("Predictor", shape);
    std::vector<double> seconds;
    unlocked([&] { seconds = program_.profile(x.data(), out.mutable_data(), x.shape(0), repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(py::make_tuple(program_.steps()[i].name, seconds[i],
                                  16 * program_.steps()[i].work * double(x.shape(0))));
    return steps;
  }

  std::size_t packed_bytes() const { return packed_bytes_; }

 private:
  static std::vector<Value> list(const std::vector<std::tuple<int, Index, Index>>& values) {
    std::vector<Value> all;
    for (const auto& [place, size, offset] : values)
      all.push_back({static_cast<Value::Place>(place), size, offset});
    return all;
  }

  // A pool over images of C channels.
  void pool(const std::string& name, int input, int output, Index C, const PoolShape& s,
            void (*forward)(const T* x, T* out, const PoolShape&)) {
    reads_and_writes(input, {C, s.H, s.W}, output, {C, s.OH, s.OW});
    const double work = double(C * s.OH * s.OW) * double(s.PH * s.PW) / 4;
    add_step(name, work, [=](const Frame<T>& f) {
      PoolShape own = s;
      own.planes = C * f.images;
      forward(f.read(input), f.write(output), own);
    });
  }

  Index size_of(int value) const { return cnnlib::size_of(program_.values(), value); }

  void reads_and_writes(int input, const std::vector<Index>& shape, int output,
                        const std::vector<Index>& out_shape) const {
    check_read(program_.values(), input, shape);
    check_written(program_.values(), output, out_shape);
  }

  // b as large as a, or a value for each of its planes.
  void join(int a, int b, int output, Index planes) const {
    const Index size = size_of(output);
    reads_and_writes(a, {size}, output, {size});
    if (size_of(b) == size) return check_read(program_.values(), b, {size});
    check_read(program_.values(), b, {planes});
    require(size % planes == 0, [] { return "prepare: planes that do not divide their value"; });
  }

  T* new_weights(std::size_t bytes) { return static_cast<T*>(weights_.take(bytes)); }

  template <class... Arrays>
  void keep(const Arrays&... arrays) {
    (keep_one(arrays), ...);
  }
  void keep_one(const py::array& array) { kept_.push_back(array); }
  void keep_one(const MaybeArray<T>& array) {
    if (array) kept_.push_back(*array);
  }

  void add_step(const std::string& name, double work, std::function<void(const Frame<T>&)> run,
                std::size_t weight_bytes = 0) {
    program_.add({name, work, weight_bytes, std::move(run)});
    packed_bytes_ += weight_bytes;
  }

  const Kernels<T>& kernels_ = kernels<T>();
  Index input_size_, output_size_;
  Program<T> program_;
  std::vector<py::object> kept_;  // the arrays that steps point into
  WeightMemory weights_;
  std::size_t packed_bytes_ = 0;
};

}  // namespace cnnlib
