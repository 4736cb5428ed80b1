// Networks prepared for inference: cnnlib.inference puts a program's steps together, one call each.
#include "../inference/program.hpp"

#include <memory>

#include "activation_names.hpp"
#include "conv_shape.hpp"
#include "pool_shape.hpp"

namespace cnnlib {
namespace {

// Weights as one plan wants them.
template <class T>
std::shared_ptr<T> packed_weights(const Kernels<T>& kernels, const ConvPlan& plan, const T* w) {
  const std::shared_ptr<void> memory =
      OwnedBuffer(acquire_buffer(std::max(buffer_alignment, plan.packed_bytes)));
  T* packed = static_cast<T*>(memory.get());
  kernels.pack_conv(plan, w, packed);
  return {memory, packed};
}

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
template <class T>
bool conv_adds(const Array<T>& like, const Array<T>& w, const py::object& conv_param) {
  ConvShape s = conv_shape("prepare", like, w, conv_param);
  s.N = 1;
  return kernels<T>().conv_adds(kernels<T>().prepare_conv(s));
}

// Arrays `like` of no images tell what shape an image of the step's input has.
template <class T>
class BoundProgram {
 public:
  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset.
  BoundProgram(const std::vector<std::tuple<int, Index, Index>>& values, Index input_size, Index output_size,
               Index arena)
      : program_(kernels_, list(values), input_size, output_size, arena) {}

  void conv(const std::string& name, int input, int output, const Array<T>& like, const Array<T>& w,
            const MaybeArray<T>& b, const py::object& conv_param, bool add, bool relu, double most) {
    ConvShape s = conv_shape("prepare", like, w, conv_param);
    s.N = 1;
    const Kernels<T>& k = kernels_;
    const ConvPlan plan = k.prepare_conv(s);
    const auto packed = packed_weights(k, plan, w.data());
    const T* weights = w.data();
    const ConvEpilogue<T> epilogue{data_or_null(b), add, relu, static_cast<T>(most)};
    keep(w, b);
    add_step(
        name + " [" + name_of(plan.method) + "]", products(s) / 8,
        [=, &k](const Frame<T>& f) {
          ConvPlan own = plan;
          own.shape.N = f.images;
          k.run_prepared_conv(own, f.read(input), weights, packed.get(), epilogue, f.write(output));
        },
        plan.packed_bytes);
  }

  // `layers` are (w, b, relu, most) of the three convolutions, conv_param the depthwise one's. `other` is a
  // value to add to the result, or -1.
  using Layer = std::tuple<Array<T>, MaybeArray<T>, bool, double>;
  void inverted_residual(const std::string& name, int input, int other, int output, const Array<T>& like,
                         const std::array<Layer, 3>& layers, const py::object& conv_param) {
    const auto own = [&](const Layer& layer) {
      const auto& [w, b, relu, most] = layer;
      keep(w, b);
      return typename InvertedResidualLayers<T>::Layer{w.data(), {data_or_null(b), false, relu, T(most)}};
    };
    const InvertedResidualLayers<T> all{own(layers[0]), own(layers[1]), own(layers[2])};
    const Array<T>&depthwise = std::get<0>(layers[1]), &project = std::get<0>(layers[2]);
    const Array<T> hidden(std::vector<Index>{0, depthwise.shape(0), like.shape(2), like.shape(3)});
    InvertedResidualShape s{1, like.shape(1), project.shape(0),
                            conv_shape("prepare", hidden, depthwise, conv_param)};
    s.depthwise.N = 1;
    const Kernels<T>& k = kernels_;
    const std::size_t bytes = checked_product(k.inverted_residual_packed_size(s), sizeof(T));
    const std::shared_ptr<void> memory = OwnedBuffer(acquire_buffer(bytes));
    T* packed = static_cast<T*>(memory.get());
    k.pack_inverted_residual(s, all, packed);
    const ConvShape& d = s.depthwise;
    const double work = products(d) + double(d.C) * double(s.F * d.OH * d.OW + s.C * d.H * d.W);
    add_step(
        name + " [inverted-residual]", work / 8,
        [=, &k](const Frame<T>& f) {
          InvertedResidualShape images = s;
          images.N = f.images;
          k.run_inverted_residual(images, all, static_cast<const T*>(memory.get()), f.read(input),
                                  other < 0 ? nullptr : f.read(other), f.write(output));
        },
        bytes);
  }

  void conv_transpose(const std::string& name, int input, int output, const Array<T>& like, const Array<T>& w,
                      const MaybeArray<T>& b, const py::object& conv_param) {
    const ConvShape s = conv_transpose_shape("prepare", like, w, conv_param);
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
    const Index D = w.shape(0), M = w.shape(1);
    const Kernels<T>& k = kernels_;
    const T *weights = w.data(), *bias = data_or_null(b);
    keep(w, b);
    add_step(name, double(D) * double(M) / 8, [=, &k](const Frame<T>& f) {
      k.affine_forward(f.read(input), weights, bias, f.write(output), {f.images, D, M, false}, relu);
    });
  }

  void max_pool(const std::string& name, int input, int output, const Array<T>& like,
                const PoolGeometry& geometry, bool ceil_mode) {
    const PoolShape s = pool_shape("prepare", like, geometry, ceil_mode, false);
    const Index C = like.shape(1);
    const Kernels<T>& k = kernels_;
    add_step(name, pool_work(s, C), [=, &k](const Frame<T>& f) {
      PoolShape own = s;
      own.planes = C * f.images;
      k.max_pool_values(f.read(input), f.write(output), own);
    });
  }

  void avg_pool(const std::string& name, int input, int output, const Array<T>& like,
                const PoolGeometry& geometry, bool ceil_mode, bool count_include_pad) {
    const PoolShape s = pool_shape("prepare", like, geometry, ceil_mode, count_include_pad);
    const Index C = like.shape(1);
    const Kernels<T>& k = kernels_;
    add_step(name, pool_work(s, C), [=, &k](const Frame<T>& f) {
      PoolShape own = s;
      own.planes = C * f.images;
      k.avg_pool_forward(f.read(input), f.write(output), own);
    });
  }

  void global_avg_pool(const std::string& name, int input, int output, Index C, Index S) {
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
      k.global_avg_pool_forward(f.read(input), f.write(output), C * f.images, S);
    });
  }

  // By the statistics (C,) of a batch norm over images (C, S).
  void normalize(const std::string& name, int input, int output, Index S, const Array<double>& mean,
                 const Array<double>& inv_std, const Array<T>& gamma, const Array<T>& beta, bool relu) {
    const Index C = gamma.size();
    const double *m = mean.data(), *i = inv_std.data();
    const T *g = gamma.data(), *b = beta.data();
    for (const py::object& array : std::initializer_list<py::object>{mean, inv_std, gamma, beta})
      kept_.push_back(array);
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
      k.batchnorm_normalize(f.read(input), m, i, g, b, f.write(output), {f.images, C, S}, relu);
    });
  }

  void row_norm(const std::string& name, int input, int output, const std::array<Index, 4>& shape, double eps,
                const Array<T>& gamma, const Array<T>& beta) {
    const auto [rows, channels, S, C] = shape;
    const T *g = gamma.data(), *b = beta.data();
    for (const py::object& array : std::initializer_list<py::object>{gamma, beta}) kept_.push_back(array);
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
    const T *g = gamma.data(), *b = beta.data();
    for (const py::object& array : std::initializer_list<py::object>{gamma, beta}) kept_.push_back(array);
    const Kernels<T>& k = kernels_;
    add_step(name, double(C) * double(S) / 2, [=, &k](const Frame<T>& f) {
      k.pixel_norm_forward(f.read(input), g, b, eps, f.write(output), f.images, C, S);
    });
  }

  // b as large as a, or a value for each of its `planes`.
  void sum(const std::string& name, int a, int b, int output, Index planes, bool relu) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
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
    add_step(name, double(size), [=, &k](const Frame<T>& f) {
      k.activation_forward(kind, f.read(input), f.write(output), static_cast<T>(alpha), size * f.images);
    });
  }

  // Over the axis of C of images (C, S).
  void softmax(const std::string& name, int input, int output, Index C, Index S) {
    const Kernels<T>& k = kernels_;
    add_step(name, double(C * S), [=, &k](const Frame<T>& f) {
      k.softmax_forward(f.read(input), f.write(output), f.images, C, S);
    });
  }

  void adaptive_avg_pool(const std::string& name, int input, int output, const AdaptivePoolShape& s) {
    const Kernels<T>& k = kernels_;
    add_step(name, double(s.planes * s.H * s.W) / 4, [=, &k](const Frame<T>& f) {
      AdaptivePoolShape own = s;
      own.planes *= f.images;
      k.adaptive_avg_pool_forward(f.read(input), f.write(output), own);
    });
  }

  void adaptive_max_pool(const std::string& name, int input, int output, const AdaptivePoolShape& s) {
    const Kernels<T>& k = kernels_;
    add_step(name, double(s.planes * s.H * s.W) / 4, [=, &k](const Frame<T>& f) {
      AdaptivePoolShape own = s;
      own.planes *= f.images;
      std::vector<std::int64_t> places(static_cast<std::size_t>(own.planes * s.OH * s.OW));
      k.adaptive_max_pool_forward(f.read(input), f.write(output), places.data(), own);
    });
  }

  void upsample(const std::string& name, int input, int output, const UpsampleShape& s, bool bilinear) {
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
    add_step(name, double(size) / 4,
             [=, &k](const Frame<T>& f) { k.relu_forward(f.read(input), f.write(output), size * f.images); });
  }

  void leaky_relu(const std::string& name, int input, int output, double alpha) {
    const Kernels<T>& k = kernels_;
    const Index size = size_of(output);
    add_step(name, double(size) / 4, [=, &k](const Frame<T>& f) {
      k.leaky_relu_forward(f.read(input), f.write(output), static_cast<T>(alpha), size * f.images);
    });
  }

  void concat(const std::string& name, const std::vector<int>& inputs, int output) {
    std::vector<Index> sizes;
    for (const int input : inputs) sizes.push_back(size_of(input));
    const Index size = size_of(output);
    add_step(name, double(size) / 4, [=](const Frame<T>& f) {
      for (Index n = 0; n < f.images; ++n) {
        T* to = f.write(output) + n * size;
        for (std::size_t i = 0; i < inputs.size(); ++i)
          to = std::copy_n(f.read(inputs[i]) + n * sizes[i], sizes[i], to);
      }
    });
  }

  py::array run(const Array<T>& x, const std::vector<Index>& shape) const {
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
    Array<T> out = new_array<T>("Predictor", shape);
    T* y = out.mutable_data();
    const Samples<T> images{nullptr, x.data(), mean.data(), std.data(), x.shape(1), x.shape(2)};
    const Index N = x.shape(0);
    unlocked([&] { program_.run(images, y, N); });
    return out;
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Array<T>& x, const std::vector<Index>& shape, int repeats) const {
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

  static double pool_work(const PoolShape& s, Index C) {
    return double(C * s.OH * s.OW) * double(s.PH * s.PW) / 4;
  }

  Index size_of(int value) const { return program_.values().at(static_cast<std::size_t>(value)).size; }

  void keep(const Array<T>& w, const MaybeArray<T>& b) {
    kept_.push_back(w);
    if (b) kept_.push_back(*b);
  }

  void add_step(const std::string& name, double work, std::function<void(const Frame<T>&)> run,
                std::size_t weight_bytes = 0) {
    program_.add({name, work, weight_bytes, std::move(run)});
    packed_bytes_ += weight_bytes;
  }

  const Kernels<T>& kernels_ = kernels<T>();
  Program<T> program_;
  std::vector<py::object> kept_;  // the arrays that steps point into
  std::size_t packed_bytes_ = 0;
};

}  // namespace

template <class T>
void bind_program(py::module_& m, const char* name) {
  using P = BoundProgram<T>;
  const auto input = py::arg("input"), output = py::arg("output"), step = py::arg("name");
  const auto like = py::arg("like").noconvert(), w = py::arg("w").noconvert();
  const auto b = py::arg("b").noconvert().none(true);
  m.def("conv_adds", &conv_adds<T>, like, w, py::arg("conv_param"));
  py::class_<P>(m, name)
      .def(py::init<const std::vector<std::tuple<int, Index, Index>>&, Index, Index, Index>(),
           py::arg("values"), py::arg("input_size"), py::arg("output_size"), py::arg("arena"))
      .def("conv", &P::conv, step, input, output, like, w, b, py::arg("conv_param"), py::arg("add"),
           py::arg("relu"), py::arg("most"))
      .def("inverted_residual", &P::inverted_residual, step, input, py::arg("other"), output, like,
           py::arg("layers"), py::arg("conv_param"))
      .def("conv_transpose", &P::conv_transpose, step, input, output, like, w, b, py::arg("conv_param"))
      .def("affine", &P::affine, step, input, output, w, b, py::arg("relu"))
      .def("max_pool", &P::max_pool, step, input, output, like, py::arg("geometry"), py::arg("ceil_mode"))
      .def("avg_pool", &P::avg_pool, step, input, output, like, py::arg("geometry"), py::arg("ceil_mode"),
           py::arg("count_include_pad"))
      .def("global_avg_pool", &P::global_avg_pool, step, input, output, py::arg("C"), py::arg("S"))
      .def("normalize", &P::normalize, step, input, output, py::arg("S"), py::arg("mean").noconvert(),
           py::arg("inv_std").noconvert(), py::arg("gamma").noconvert(), py::arg("beta").noconvert(),
           py::arg("relu"))
      .def("row_norm", &P::row_norm, step, input, output, py::arg("shape"), py::arg("eps"),
           py::arg("gamma").noconvert(), py::arg("beta").noconvert())
      .def("pixel_norm", &P::pixel_norm, step, input, output, py::arg("S"), py::arg("eps"),
           py::arg("gamma").noconvert(), py::arg("beta").noconvert())
      .def("sum", &P::sum, step, py::arg("a"), py::arg("b"), output, py::arg("planes"), py::arg("relu"))
      .def("product", &P::product, step, py::arg("a"), py::arg("b"), output, py::arg("planes"))
      .def("leaky_relu", &P::leaky_relu, step, input, output, py::arg("alpha"))
      .def("relu", &P::relu, step, input, output)
      .def(
          "activation",
          [](P& p, const std::string& name, int in, int out, const std::string& kind, double alpha) {
            p.activation(name, in, out, activation_named("prepare", kind), alpha);
          },
          step, input, output, py::arg("kind"), py::arg("alpha"))
      .def("softmax", &P::softmax, step, input, output, py::arg("C"), py::arg("S"))
      .def(
          "adaptive_pool",
          [](P& p, const std::string& name, int in, int out, const std::array<Index, 5>& s, bool maximum) {
            const AdaptivePoolShape shape{s[0], s[1], s[2], s[3], s[4]};
            maximum ? p.adaptive_max_pool(name, in, out, shape) : p.adaptive_avg_pool(name, in, out, shape);
          },
          step, input, output, py::arg("shape"), py::arg("maximum"))
      .def(
          "upsample",
          [](P& p, const std::string& name, int in, int out, const std::array<Index, 5>& s, bool bilinear,
             bool align_corners) {
            p.upsample(name, in, out, {s[0], s[1], s[2], s[3], s[4], align_corners}, bilinear);
          },
          step, input, output, py::arg("shape"), py::arg("bilinear"), py::arg("align_corners"))
      .def("concat", &P::concat, step, py::arg("inputs"), output)
      .def("run", &P::run, py::arg("x").noconvert(), py::arg("shape"))
      .def("run_bytes", &P::run_bytes, py::arg("x").noconvert(), py::arg("mean").noconvert(),
           py::arg("std").noconvert(), py::arg("shape"))
      .def("profile", &P::profile, py::arg("x").noconvert(), py::arg("shape"), py::arg("repeats"))
      .def_property_readonly("packed_bytes", &P::packed_bytes);
}

template void bind_program<float>(py::module_&, const char*);
template void bind_program<double>(py::module_&, const char*);

}  // namespace cnnlib
