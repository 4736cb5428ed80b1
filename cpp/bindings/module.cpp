#include "../dispatch.hpp"
#include "../machine/cgroup.hpp"
#include "../machine/processor.hpp"
#include "../memory/buffers.hpp"
#include "../memory/scratch.hpp"
#include "../threads/missing_cores.hpp"
#include "../threads/parallel.hpp"
#include "../threads/team.hpp"
#include "arrays.hpp"

namespace cnnlib {
namespace {

void bind_instruction_sets(py::module_& m) {
  m.def("active_isa", [] { return std::string(active_isa().name); });
  m.def("available_isas", &available_isas);
  def(m, "use_isa(name)", &use_isa);
  m.def("active_products", [] { return std::string(active_products().name); });
  m.def("int8_limit", &int8_limit);
  def(m, "limit_int8(name)", &limit_int8);
  m.def("active_bfloat16", []() -> std::optional<std::string> {
    const BfloatKernels* kernels = active_bfloat16();
    return kernels == nullptr ? std::nullopt : std::optional<std::string>(kernels->name);
  });
  m.def("bfloat16_limit", &bfloat16_limit);
  def(m, "limit_bfloat16(name)", &limit_bfloat16);
}

// For tests, with times in milliseconds.
MissingCores::Time at(double ms) {
  return MissingCores::Time(std::chrono::duration_cast<MissingCores::Clock::duration>(
      std::chrono::duration<double, std::milli>(ms)));
}
int left(MissingCores& all, int threads, double now) { return all.left(threads, at(now)); }
void note(MissingCores& all, int threads, int cores, double begin, double first, double last) {
  all.note(threads, cores, at(begin), at(first), at(last));
}

void bind_threads(py::module_& m) {
  m.def("get_num_threads", &num_threads);
  def(m, "set_num_threads(n)", &set_num_threads);
  def(m, "notice_missing_cores(notice)", &notice_missing_cores);
  m.attr("has_openmp") = has_openmp;
  def(m, "use_thread_pool(pool)", &use_thread_pool);
  py::class_<MissingCores> missing_cores(m, "MissingCores");
  missing_cores.def(py::init<>());
  def(missing_cores, "left(threads, now)", &left);
  def(missing_cores, "note(threads, cores, begin, first, last)", &note);
}

py::tuple sizes_of(const Caches& c) { return py::make_tuple(c.l1, c.l2, c.l3); }
py::tuple sizes_of_system_caches(const std::string& folder, const std::vector<int>& processors) {
  return sizes_of(system_caches(folder, processors));
}

void bind_machine(py::module_& m) {
  m.def("caches", [] { return sizes_of(caches()); });
  def(m, "system_caches(folder, processors)", &sizes_of_system_caches);
  m.def("physical_cores", &physical_cores);
  def(m, "system_cores(folder, processors)", &system_cores);
  m.def("memory_limit", &memory_limit);
  def(m, "cgroup_memory_limit(membership, mount)", &cgroup_memory_limit);
  def(m, "cgroup_cpus(membership, mount)", &cgroup_cpus);
}

void bind_memory(py::module_& m) {
  m.def("scratch_peak", &scratch_peak);
  m.def("restart_scratch_peak", &restart_scratch_peak);
  m.def("release_buffers", &release_buffers);
  m.def("buffer_counts", [] {
    const BufferCounts counts = buffer_counts();
    return std::make_pair(counts.acquired, counts.fresh);
  });
  m.def("buffer_bytes", [] {
    const BufferBytes bytes = buffer_bytes();
    return std::make_pair(bytes.used, bytes.kept);
  });
}

}  // namespace
}  // namespace cnnlib

// pybind11's own entry point, under another name: before it runs, it waits for a lock that a sub-interpreter
// never gets (until Python 3.12). A Python without the interpreter's lock may leave it off: what calls share
// is constant, atomic or locked, since they ran without it in every other Python, too.
#define PyInit__core initialise_core
PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
  using namespace cnnlib;
  m.doc() = "Compiled kernels behind cnnlib.layers and cnnlib.optim.";
  watch_for_fork();
  active_isa();  // a wrong CNNLIB_ISA, CNNLIB_INT8 or CNNLIB_CACHES is an error of the import
  int8_limit();
  bfloat16_limit();
  caches();
  bind_inputs(m);
  bind_conv(m);
  bind_images(m);
  bind_norm(m);
  bind_attention(m);
  bind_dense(m);
  bind_losses(m);
  bind_update(m);
  bind_program(m);
  bind_training(m);
  bind_instruction_sets(m);
  bind_threads(m);
  bind_machine(m);
  bind_memory(m);
  m.attr("__version__") = CNNLIB_VERSION;
  m.attr("eigen_version") = CNNLIB_EIGEN_VERSION;
  m.attr("compiler") = __VERSION__;
  m.attr("isas_left_out") = isas_left_out();
}
#undef PyInit__core

extern "C" PYBIND11_EXPORT PyObject* PyInit__core();
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return initialise_core();
  PyErr_SetString(PyExc_ImportError, "cnnlib runs in the main interpreter alone, not in a sub-interpreter");
  return nullptr;
}
