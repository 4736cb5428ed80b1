// The layers of images as steps of prepared networks and of training.
#include "image_layers.hpp"

#include "../program/bound_program.hpp"
#include "../training/bound_training.hpp"

namespace cnnlib {
namespace {

template <class Layer>
void add(BoundProgram& p, const std::string& name, int input, int output, const Layer& layer) {
  p.reads_and_writes(input, layer.x, output, layer.out);
  p.add_step(name, layer.work, [=](const auto& k, const Frame& f) {
    layer.forward(k, f.read(input), f.write(output), Out(), f.images);
  });
}

template <class Layer>
void add(BoundTraining& p, int x, int out, const Layer& layer) {
  p.reads(x, layer.x);
  p.makes(out, layer.out);
  const Index place_bytes = elements_of(layer.out) * layer.place_bytes;
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    Memory<void> kept;
    if (layer.keeps == Keeps::places) kept = new_memory<char>(batch.N * place_bytes);
    const In in = batch.value(x);
    const Out y = batch.make(out);
    batch.kernels([&](const auto& k) { layer.forward(k, in, y, Out(kept), batch.N); });
    if (layer.keeps == Keeps::x) kept = batch.value(x);
    if (layer.keeps == Keeps::out) kept = batch.value(out);
    return [=](Batch& taken) {
      taken.pass_back(x, out, [&](In dout, Out dx) {
        taken.kernels([&](const auto& k) { layer.backward(k, dout, kept, dx, taken.N); });
      });
    };
  });
}

// The methods of programs; behind these arguments come those of what makes the layer.
template <auto make>
struct Methods;
template <class Layer, class... Args, Layer (*make)(Text, const Floats&, Args...)>
struct Methods<make> {
  static void predict(BoundProgram& p, const std::string& name, int input, int output, const Floats& like,
                      Args... args) {
    add(p, name, input, output, make("prepare", like, args...));
  }
  static void train(BoundTraining& p, int x, int out, const Floats& like, Args... args) {
    add(p, x, out, make("loss", like, args...));
  }
};

template <auto make>
void def_layer(py::class_<BoundProgram>& program, const std::string& name, const std::string& arguments) {
  def(program, (name + "(name, input, output, like" + arguments + ")").c_str(), &Methods<make>::predict);
}
template <auto make>
void def_layer(py::class_<BoundTraining>& program, const std::string& name, const std::string& arguments) {
  def(program, (name + "(x, out, like" + arguments + ")").c_str(), &Methods<make>::train);
}

}  // namespace

template <class Program>
void bind_image_layers(py::class_<Program>& program) {
  def_layer<&activation>(program, "activation", ", kind, alpha");
  def_layer<&softmax>(program, "softmax", "");
  def_layer<&max_pool>(program, "max_pool", ", geometry, ceil_mode");
  def_layer<&avg_pool>(program, "avg_pool", ", geometry, ceil_mode, count_include_pad");
  def_layer<&adaptive_max_pool>(program, "adaptive_max_pool", ", size");
  def_layer<&adaptive_avg_pool>(program, "adaptive_avg_pool", ", size");
  def_layer<&upsample>(program, "upsample", ", scale, bilinear, align_corners");
}

template void bind_image_layers(py::class_<BoundProgram>&);
template void bind_image_layers(py::class_<BoundTraining>&);

}  // namespace cnnlib
