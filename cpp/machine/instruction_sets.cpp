// Read from the processor itself: what compilers offer for it is not in every runtime library (zig's lacks
// it).
#include "instruction_sets.hpp"

#include "system.hpp"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace cnnlib {
namespace {

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

#ifdef __x86_64__
Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers found;
  __get_cpuid_count(leaf, subleaf, &found.a, &found.b, &found.c, &found.d);
  return found;
}
// The registers that the system saves when it changes threads (XCR0); 0 where it saves none of the newer
// ones.
unsigned saved_registers() {
  constexpr unsigned osxsave = 1u << 27;
  if (!(cpuid(1).c & osxsave)) return 0;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}
#else
Registers cpuid(unsigned, unsigned = 0) { return {}; }
unsigned saved_registers() { return 0; }
#endif

bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

}  // namespace

bool runs_avx2() {
  constexpr unsigned fma = 1u << 12, avx = 1u << 28, avx2 = 1u << 5, sse_and_avx_state = 0x6;
  return has(cpuid(1).c, fma | avx) && has(cpuid(7).b, avx2) && has(saved_registers(), sse_and_avx_state);
}

bool runs_avx512() {
  constexpr unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, avx512_state = 0xe6;
  return runs_avx2() && has(cpuid(7).b, f | dq | bw | vl) && has(saved_registers(), avx512_state);
}

bool runs_avx_vnni() { return runs_avx2() && has(cpuid(7, 1).a, 1u << 4); }
bool runs_avx512_vnni() { return runs_avx512() && has(cpuid(7).c, 1u << 11); }

bool runs_avx512_bf16() { return runs_avx512() && has(cpuid(7, 1).a, 1u << 5); }

namespace {

// Whether there are tile registers, and this instruction for them.
bool runs_tiles(unsigned instruction) {
  constexpr unsigned tile = 1u << 24, tile_state = 0x60000;
  return has(cpuid(7).d, tile | instruction) && has(saved_registers(), tile_state) &&
         may_use_tile_registers();
}

}  // namespace

bool runs_amx_int8() { return runs_avx512_vnni() && runs_tiles(1u << 25); }
bool runs_amx_bf16() { return runs_avx512_bf16() && runs_tiles(1u << 22); }

bool is_from_intel() {
  const Registers vendor = cpuid(0);  // "Genu" "ineI" "ntel"
  return vendor.b == 0x756e6547 && vendor.d == 0x49656e69 && vendor.c == 0x6c65746e;
}

}  // namespace cnnlib
