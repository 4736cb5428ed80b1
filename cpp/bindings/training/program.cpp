// Training steps without the interpreter between their layers: cnnlib.graph puts them together.
#include "../program/checks.hpp"
#include "bound_training.hpp"

namespace cnnlib {

BoundTraining::BoundTraining(const py::dtype& dtype, const std::vector<Index>& sizes,
                             std::vector<bool> wanted, std::vector<std::vector<Index>> params,
                             std::vector<bool> trained, std::vector<std::vector<int>> done,
                             const ValueImages& images)
    : single_(is_single("loss", dtype)),
      wanted_(std::move(wanted)),
      alive_(sizes.size()),
      params_(std::move(params)),
      trained_(std::move(trained)),
      done_(std::move(done)) {
  require(trained_.size() == params_.size(), "loss: which parameters are trained?");
  require(!sizes.empty() && wanted_.size() == sizes.size(), "loss: values missing");
  require(!images || (images->size() == sizes.size() && !images->front()), "loss: how do values lie?");
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    require(sizes[i] >= 0, "loss: a value of ", sizes[i], " elements");
    ValueForm form{sizes[i], std::nullopt};
    if (images && (*images)[i]) form.image = narrow_image<Bfloat16>(*(*images)[i]);
    require(!form.image || (single_ && elements_of(shape_of(*form.image)) == sizes[i]),
            "loss: a value of bfloat16 of other elements");
    forms_.push_back(form);
  }
  for (const std::vector<int>& values : done_)
    for (const int value : values) size_of(value);
  alive_[0] = true;
}

const ValueForm& BoundTraining::form(int value) const {
  require(value >= 0 && static_cast<std::size_t>(value) < forms_.size(), "loss: there is no value ", value);
  return forms_[static_cast<std::size_t>(value)];
}

Index BoundTraining::size_of(int value) const { return form(value).elements; }

const BfloatImage& BoundTraining::reads_image(int value) const {
  require(form(value).image.has_value(), "loss: a layer takes value ", value, " for one of bfloat16");
  reads(value, shape_of(*form(value).image), true);
  return *form(value).image;
}

const BfloatImage& BoundTraining::makes_image(int value, const ShapeView& shape) {
  require(form(value).image.has_value(), "loss: a layer makes value ", value, " of bfloat16");
  makes(value, shape, true);
  return *form(value).image;
}

void BoundTraining::reads(int value, const ShapeView& shape, bool narrow) const {
  const Index elements = size_of(value);
  require(form(value).image.has_value() == narrow, "loss: value ", value, " lies in another way");
  require(elements == elements_of(shape) && alive_[static_cast<std::size_t>(value)],
          "loss: a layer takes a value of ", elements, " elements, or none yet, for one of ", shape);
}

void BoundTraining::makes(int value, const ShapeView& shape, bool narrow) {
  const Index elements = size_of(value);
  require(form(value).image.has_value() == narrow, "loss: value ", value, " lies in another way");
  require(elements == elements_of(shape) && !alive_[static_cast<std::size_t>(value)],
          "loss: a layer makes a value of ", elements, " elements, or again, of shape ", shape);
  alive_[static_cast<std::size_t>(value)] = true;
}

void BoundTraining::add(int out, Batch::Layer layer) {
  require(layers_.size() < done_.size(), "loss: a layer too many");
  for (const int value : done_[layers_.size()]) alive_[static_cast<std::size_t>(value)] = false;
  layers_.push_back(std::move(layer));
  active_.push_back(wants(out));
}

void BoundTraining::takes(int param, Index elements, bool optional) const {
  if (optional && param == -1) return;
  const bool right = param >= 0 && static_cast<std::size_t>(param) < params_.size() &&
                     elements_of(params_[static_cast<std::size_t>(param)]) == elements;
  require(right, "loss: parameter ", param, " has not ", elements, " elements");
}

void BoundTraining::check_call(const Floats& x, const std::vector<py::object>& params,
                               const std::vector<NormState>& norms, const std::vector<Floats>& masks,
                               const std::vector<std::pair<int, std::vector<Index>>>& outputs) const {
  require_one_dtype(*this, x);
  for (const NormState& norm : norms) require_one_dtype(*this, std::get<2>(norm), std::get<3>(norm));
  for (const Floats& mask : masks) require_one_dtype(*this, mask);
  require(fits(params), "loss: parameters of other shapes or dtypes");
  require(layers_.size() == done_.size(), "loss: layers are missing");
  const Index N = x.ndim() > 0 ? x.shape(0) : 0;
  require(N > 0 && x.size() / N == size_of(0) && x.size() % N == 0, "loss: samples of another size");
  for (const ValueForm& form : forms_)
    require(elements_of({std::max<Index>(1, form.bytes(1)), N}) > 0, "loss: a result that is too large");
  require(norms.size() == norms_.size() && masks.size() == masks_.size(), "loss: other norms or masks");
  for (std::size_t i = 0; i < norms.size(); ++i)
    require(std::get<2>(norms[i]).size() == norms_[i] && std::get<3>(norms[i]).size() == norms_[i],
            "loss: running statistics of other channels");
  for (std::size_t i = 0; i < masks.size(); ++i)
    require(masks[i].size() == N * masks_[i], "loss: a mask of another size");
  for (const auto& [value, shape] : outputs) reads(value, shape);
}

void bind_training(py::module_& m) {
  using P = BoundTraining;
  py::class_<BoundBatch>(m, "Batch")
      .def_property_readonly("N", [](const BoundBatch& bound) { return bound.batch.N; })
      .def_property_readonly("seconds", [](const BoundBatch& bound) {
        py::list layers;
        for (const auto& [forward, backward] : bound.batch.seconds)
          layers.append(py::make_tuple(forward, backward));
        return layers;
      });
  py::class_<P> program(m, "Training");
  program
      .def(py::init<const py::dtype&, const std::vector<Index>&, std::vector<bool>,
                    std::vector<std::vector<Index>>, std::vector<bool>, std::vector<std::vector<int>>,
                    const ValueImages&>(),
           Signature("(dtype, sizes, wanted, params, trained, done, images=None)"))
      .def("fits", &P::fits, Signature("(params)"))
      .def("forward", &P::forward, Signature("(x, params, norms, masks, outputs, timed=False)"))
      .def("backward", &P::backward, Signature("(batch, douts)"));
  bind_weighted_layers(program);
  bind_image_layers(program);
  bind_attention_layer(program);
  bind_elementwise_layers(program);
  bind_bfloat16_layers(program);
}

}  // namespace cnnlib
