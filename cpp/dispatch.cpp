#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "machine/instruction_sets.hpp"

namespace cnnlib {

// Each is defined where its set was compiled.
namespace avx512 {
const Isa& isa();
}
namespace avx2 {
const Isa& isa();
}
namespace base {
const Isa& isa();
}
namespace avx512amx {
ByteProducts byte_products();
}
namespace avx512vnni {
ByteProducts byte_products();
}
namespace avx2vnni {
ByteProducts byte_products();
}

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
    throw std::runtime_error(std::string("cnnlib was compiled without the instruction sets ") +
                             isas_left_out() +
                             ", and this processor has no other: build it with CNNLIB_ISAS=all");
  return sets;
}

const Isa* named(const std::string& name) {
  std::string known;
  for (const Isa* set : runnable()) {
    if (name == set->name) return set;
    known += known.empty() ? set->name : std::string(", ") + set->name;
  }
  const std::string left_out = std::string(", ") + isas_left_out() + ",";
  const bool compiled = name.empty() || left_out.find(" " + name + ",") == std::string::npos;
  throw std::invalid_argument("instruction set '" + name + "' is not available " +
                              (compiled ? "here" : "in this build, but with CNNLIB_ISAS=all") +
                              "; choose one of: " + known);
}

// find(value) of an environment variable, which its errors name; of `usual` where it is not set.
template <class Find>
auto from_environment(const std::string& variable, const std::string& usual, const Find& find) {
  const char* wanted = std::getenv(variable.c_str());
  try {
    return find(wanted == nullptr || *wanted == '\0' ? usual : wanted);
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument(variable + ": " + e.what());
  }
}

// The most that products of bytes may use beside their set.
constexpr const char* int8_limits[] = {"none", "vnni", "amx"};
enum Int8Limit { no_extension, vnni, amx };

int int8_limit_of(const std::string& name) {
  for (int i = no_extension; i <= amx; ++i)
    if (name == int8_limits[i]) return i;
  throw std::invalid_argument("'" + name + "' is none of: none, vnni, amx");
}

std::atomic<int>& limit() {
  static std::atomic<int> limit{from_environment("CNNLIB_INT8", "amx", &int8_limit_of)};
  return limit;
}

// An extension's products, or null where this processor lacks it. Made when they are first wanted: registers
// that the system grants cost the process something. Its functions run where it does, the one that makes the
// table too.
template <bool (*runs)(), ByteProducts (*make)()>
const ByteProducts* products_if() {
  static const bool runs_here = runs();
  if (!runs_here) return nullptr;
  static const ByteProducts products = make();
  return &products;
}

// Instructions for products of bytes that a set may have.
struct Extension {
  Int8Limit needs;
  const char* set;
  const ByteProducts* (*products)();
};

// The fastest first.
const std::vector<Extension>& extensions() {
  static const std::vector<Extension> known = {
#ifdef CNNLIB_HAVE_AVX512AMX
      {amx, "avx512", &products_if<runs_amx_int8, avx512amx::byte_products>},
#endif
#ifdef CNNLIB_HAVE_AVX512VNNI
      {vnni, "avx512", &products_if<runs_avx512_vnni, avx512vnni::byte_products>},
#endif
#ifdef CNNLIB_HAVE_AVX2VNNI
      {vnni, "avx2", &products_if<runs_avx_vnni, avx2vnni::byte_products>},
#endif
  };
  return known;
}

std::atomic<const Isa*>& active() {
  static std::atomic<const Isa*> set{from_environment("CNNLIB_ISA", runnable().front()->name, &named)};
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
  for (const Extension& extension : extensions())
    if (std::strcmp(extension.set, set.name) == 0 && extension.needs <= limit())
      if (const ByteProducts* products = extension.products()) return *products;
  return set.products;
}

const char* isas_left_out() { return CNNLIB_ISAS_LEFT_OUT; }

std::string int8_limit() { return int8_limits[limit()]; }
void limit_int8(const std::string& name) { limit() = int8_limit_of(name); }

void use_isa(const std::string& name) { active() = named(name); }

}  // namespace cnnlib
