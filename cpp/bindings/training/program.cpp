// Training steps without the interpreter between their layers: cnnlib.models.training puts them together.
#include "bound_training.hpp"

namespace cnnlib {

template <class T>
void bind_training(py::module_& m, const char* name, const char* batch_name) {
  using P = BoundTraining<T>;
  py::class_<BoundBatch<T>>(m, batch_name);
  py::class_<P> program(m, name);
  program
      .def(py::init<std::vector<Index>, std::vector<std::vector<Index>>, std::vector<bool>,
                    std::vector<std::vector<int>>, std::vector<bool>>(),
           py::arg("sizes"), py::arg("params"), py::arg("trained"), py::arg("done"), py::arg("active"))
      .def("fits", &P::fits, py::arg("params"))
      .def("forward", &P::forward, py::arg("x").noconvert(), py::arg("params"), py::arg("norms"),
           py::arg("masks"), py::arg("outputs"))
      .def("backward", &P::backward, py::arg("batch"), py::arg("douts"));
  bind_weighted_layers<T>(program);
  bind_plane_layers<T>(program);
  bind_elementwise_layers<T>(program);
}

template void bind_training<float>(py::module_&, const char*, const char*);
template void bind_training<double>(py::module_&, const char*, const char*);

}  // namespace cnnlib
