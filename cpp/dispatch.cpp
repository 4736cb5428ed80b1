#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace cnnlib {

#ifdef CNNLIB_HAVE_AVX512
namespace avx512 {
const Isa& isa();
}
#endif
#ifdef CNNLIB_HAVE_AVX2
namespace avx2 {
const Isa& isa();
}
#endif
#ifdef CNNLIB_HAVE_BASE
namespace base {
const Isa& isa();
}
#endif

namespace {

// The compiler's builtin also asks whether the operating system saves the registers.
std::vector<const Isa*> runnable() {
  std::vector<const Isa*> sets;
#ifdef CNNLIB_HAVE_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    sets.push_back(&avx512::isa());
#endif
#ifdef CNNLIB_HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&avx2::isa());
#endif
#ifdef CNNLIB_HAVE_BASE
  sets.push_back(&base::isa());
#endif
  if (sets.empty())
    throw std::runtime_error("cnnlib was built for an instruction set that this processor does not have");
  return sets;
}

const Isa& named(const std::string& name) {
  std::string known;
  for (const Isa* set : runnable()) {
    if (name == set->name) return *set;
    known += known.empty() ? set->name : std::string(", ") + set->name;
  }
  throw std::invalid_argument("instruction set '" + name +
                              "' is not available here; choose one of: " + known);
}

const Isa& initial() {
  const char* wanted = std::getenv("CNNLIB_ISA");
  if (wanted == nullptr || *wanted == '\0') return *runnable().front();
  try {
    return named(wanted);
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(std::string("CNNLIB_ISA: ") + e.what());
  }
}

std::atomic<const Isa*>& active() {
  static std::atomic<const Isa*> set{&initial()};
  return set;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa* set : runnable()) names.emplace_back(set->name);
  return names;
}

const Isa& active_isa() { return *active().load(std::memory_order_relaxed); }

void use_isa(const std::string& name) { active() = &named(name); }

}  // namespace cnnlib
