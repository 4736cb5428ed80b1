#include "../threads/missing_cores.hpp"
#include "../threads/openmp_team.hpp"
#include "../threads/parallel.hpp"
#include "../threads/team.hpp"
#include "arrays.hpp"

namespace cnnlib {

namespace {

// For tests, with times in milliseconds.
void bind_missing_cores(py::module_& m) {
  const auto at = [](double ms) {
    return MissingCores::Time(std::chrono::duration_cast<MissingCores::Clock::duration>(
        std::chrono::duration<double, std::milli>(ms)));
  };
  py::class_<MissingCores>(m, "MissingCores")
      .def(py::init<>())
      .def(
          "left", [at](MissingCores& cores, int threads, double now) { return cores.left(threads, at(now)); },
          py::arg("threads"), py::arg("now"))
      .def(
          "note",
          [at](MissingCores& all, int threads, int cores, double begin, double first, double last) {
            all.note(threads, cores, at(begin), at(first), at(last));
          },
          py::arg("threads"), py::arg("cores"), py::arg("begin"), py::arg("first"), py::arg("last"));
}

}  // namespace

void bind_threads(py::module_& m) {
  m.def("get_num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  bind_missing_cores(m);
  m.def("notice_missing_cores", &notice_missing_cores, py::arg("notice"));
  m.attr("has_openmp") = has_openmp;
  m.def("use_thread_pool", &use_thread_pool, py::arg("pool"));
}

}  // namespace cnnlib
