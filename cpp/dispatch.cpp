#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <mutex>
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
#ifdef CNNLIB_HAVE_AVX512AMX
namespace avx512amx {
ByteProducts byte_products();
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

// Instructions for products of bytes that a set may have, and the set. Their functions run on processors that
// have them alone, those that make the tables too.
struct Extension {
  const char *name, *set;
  bool (*runs)();
  ByteProducts (*products)();
};

const Extension extensions[] = {
// the fastest first
#ifdef CNNLIB_HAVE_AVX512AMX
    {"amx", "avx512", &runs_amx_int8, &avx512amx::byte_products},
#endif
#ifdef CNNLIB_HAVE_AVX512VNNI
    {"vnni", "avx512", &runs_avx512_vnni, &avx512vnni::byte_products},
#endif
#ifdef CNNLIB_HAVE_AVX2VNNI
    {"vnni", "avx2", &runs_avx_vnni, &avx2vnni::byte_products},
#endif
    {"none", "", [] { return false; }, nullptr},
};

constexpr const char* int8_limits[] = {"none", "vnni", "amx"};

int int8_limit_of(const std::string& name) {
  for (int i = 0; i < 3; ++i)
    if (name == int8_limits[i]) return i;
  throw std::invalid_argument("'" + name + "' is none of: none, vnni, amx");
}

int initial_int8_limit() {
  const char* wanted = std::getenv("CNNLIB_INT8");
  try {
    return int8_limit_of(wanted == nullptr || *wanted == '\0' ? "amx" : wanted);
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(std::string("CNNLIB_INT8: ") + e.what());
  }
}

std::atomic<int>& limit() {
  static std::atomic<int> limit{initial_int8_limit()};
  return limit;
}

// The products of the extension, made when they are first wanted: registers that the system grants cost the
// process something. Null where this processor lacks it.
const ByteProducts* products_of(const Extension& extension) {
  static std::once_flag asked[std::size(extensions)];
  static std::unique_ptr<ByteProducts> tables[std::size(extensions)];
  const auto i = std::size_t(&extension - extensions);
  std::call_once(asked[i], [&] {
    if (extension.runs()) tables[i] = std::make_unique<ByteProducts>(extension.products());
  });
  return tables[i].get();
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

const ByteProducts& active_products() {
  const Isa& set = active_isa();
  for (const Extension& extension : extensions)
    if (extension.set == std::string(set.name) && int8_limit_of(extension.name) <= limit())
      if (const ByteProducts* products = products_of(extension)) return *products;
  return set.products;
}

std::string int8_limit() { return int8_limits[limit()]; }
void limit_int8(const std::string& name) { limit() = int8_limit_of(name); }

void use_isa(const std::string& name) { active() = &named(name); }

}  // namespace cnnlib
