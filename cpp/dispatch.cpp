#include "dispatch.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

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
namespace avx512amxbf16 {
BfloatKernels bfloat_kernels();
}
namespace avx512bf16 {
BfloatKernels bfloat_kernels();
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

// Limits the extensions that a family of products may use. Its names go from the least to the most.
class ExtensionLimit {
 public:
  ExtensionLimit(const char* variable, std::vector<const char*> names)
      : names_(std::move(names)),
        limit_(
            from_environment(variable, names_.back(), [this](const std::string& n) { return number(n); })) {}

  std::string name() const { return names_[limit_]; }
  void set(const std::string& name) { limit_ = number(name); }
  bool allows(std::size_t number) const { return number <= limit_; }

 private:
  std::size_t number(const std::string& name) const {
    std::string known;
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (name == names_[i]) return i;
      known += (i > 0 ? ", " : "") + std::string(names_[i]);
    }
    throw std::invalid_argument("'" + name + "' is none of: " + known);
  }

  const std::vector<const char*> names_;
  std::atomic<std::size_t> limit_;
};

ExtensionLimit& int8_extensions() {
  static ExtensionLimit limit("CNNLIB_INT8", {"none", "vnni", "amx"});
  return limit;
}
ExtensionLimit& bfloat16_extensions() {
  static ExtensionLimit limit("CNNLIB_BFLOAT16", {"none", "avx512bf16", "amx"});
  return limit;
}
enum { no_extension, vectors, amx };  // their numbers

// An extension's kernels, or null where this processor lacks it. Made when they are first wanted: registers
// that the system grants cost the process something. Its functions run where it does, the one that makes the
// table too.
template <class Table, bool (*runs)(), Table (*make)()>
const Table* table_if() {
  static const bool runs_here = runs();
  if (!runs_here) return nullptr;
  static const Table table = make();
  return &table;
}

// Instructions that a set may have, and the kernels for them.
template <class Table>
struct Extension {
  std::size_t needs;
  const char* set;
  const Table* (*table)();
};

// The kernels of the first extension that serves the set in use, or null.
template <class Table>
const Table* first_of(const std::vector<Extension<Table>>& extensions, const ExtensionLimit& limit) {
  const Isa& set = active_isa();
  for (const Extension<Table>& extension : extensions)
    if (std::strcmp(extension.set, set.name) == 0 && limit.allows(extension.needs))
      if (const Table* table = extension.table()) return table;
  return nullptr;
}

// The fastest first.
const std::vector<Extension<ByteProducts>>& byte_extensions() {
  static const std::vector<Extension<ByteProducts>> known = {
#ifdef CNNLIB_HAVE_AVX512AMX
      {amx, "avx512", &table_if<ByteProducts, runs_amx_int8, avx512amx::byte_products>},
#endif
#ifdef CNNLIB_HAVE_AVX512VNNI
      {vectors, "avx512", &table_if<ByteProducts, runs_avx512_vnni, avx512vnni::byte_products>},
#endif
#ifdef CNNLIB_HAVE_AVX2VNNI
      {vectors, "avx2", &table_if<ByteProducts, runs_avx_vnni, avx2vnni::byte_products>},
#endif
  };
  return known;
}
const std::vector<Extension<BfloatKernels>>& bfloat_extensions() {
  static const std::vector<Extension<BfloatKernels>> known = {
#ifdef CNNLIB_HAVE_AVX512AMXBF16
      {amx, "avx512", &table_if<BfloatKernels, runs_amx_bf16, avx512amxbf16::bfloat_kernels>},
#endif
#ifdef CNNLIB_HAVE_AVX512BF16
      {vectors, "avx512", &table_if<BfloatKernels, runs_avx512_bf16, avx512bf16::bfloat_kernels>},
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
  const ByteProducts* products = first_of(byte_extensions(), int8_extensions());
  return products != nullptr ? *products : active_isa().products;
}
const BfloatKernels* active_bfloat16() { return first_of(bfloat_extensions(), bfloat16_extensions()); }

const char* isas_left_out() { return CNNLIB_ISAS_LEFT_OUT; }

std::string int8_limit() { return int8_extensions().name(); }
void limit_int8(const std::string& name) { int8_extensions().set(name); }
std::string bfloat16_limit() { return bfloat16_extensions().name(); }
void limit_bfloat16(const std::string& name) { bfloat16_extensions().set(name); }

void use_isa(const std::string& name) { active() = named(name); }

}  // namespace cnnlib
