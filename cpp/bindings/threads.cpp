#include "../threads/missing_cores.hpp"
#include "../threads/parallel.hpp"
#include "../threads/team.hpp"
#include "arrays.hpp"

namespace cnnlib {
namespace {

// For tests, with times in milliseconds.
MissingCores::Time at(double ms) {
  return MissingCores::Time(std::chrono::duration_cast<MissingCores::Clock::duration>(
      std::chrono::duration<double, std::milli>(ms)));
}
int left(MissingCores& all, int threads, double now) { return all.left(threads, at(now)); }
void note(MissingCores& all, int threads, int cores, double begin, double first, double last) {
  all.note(threads, cores, at(begin), at(first), at(last));
}

}  // namespace

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

}  // namespace cnnlib
