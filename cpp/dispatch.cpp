#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "machine/instruction_sets.hpp"

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
#ifdef CNNLIB_HAVE_AVX512VNNI
namespace avx512vnni {
ByteProducts byte_products();
}
#endif
#ifdef CNNLIB_HAVE_AVX2VNNI
namespace avx2vnni {
ByteProducts byte_products();
}
#endif

namespace {

std::vector<const Isa*> runnable() {
  std::vector<const Isa*> sets;
#ifdef CNNLIB_HAVE_AVX512
  if (runs_avx512()) sets.push_back(&avx512::isa());
#endif
#ifdef CNNLIB_HAVE_AVX2
  if (runs_avx2()) sets.push_back(&avx2::isa());
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

bool initial_vnni() {
  const char* wanted = std::getenv("CNNLIB_VNNI");
  return wanted == nullptr || std::string(wanted) != "0";
}

std::atomic<bool>& vnni_wanted() {
  static std::atomic<bool> wanted{initial_vnni()};
  return wanted;
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

// The functions of the extensions run on processors that have them alone, those that make the tables too.
const ByteProducts& active_products() {
  const Isa& set = active_isa();
#ifdef CNNLIB_HAVE_AVX512VNNI
  static const bool avx512_vnni = runs_avx512_vnni();
  if (vnni_wanted() && avx512_vnni && std::string(set.name) == "avx512") {
    static const ByteProducts products = avx512vnni::byte_products();
    return products;
  }
#endif
#ifdef CNNLIB_HAVE_AVX2VNNI
  static const bool avx_vnni = runs_avx_vnni();
  if (vnni_wanted() && avx_vnni && std::string(set.name) == "avx2") {
    static const ByteProducts products = avx2vnni::byte_products();
    return products;
  }
#endif
  return set.products;
}

void use_vnni(bool wanted) { vnni_wanted() = wanted; }

void use_isa(const std::string& name) { active() = &named(name); }

}  // namespace cnnlib
