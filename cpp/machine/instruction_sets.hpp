// Which instructions this processor has, and the system lets run.
#pragma once

namespace cnnlib {

// AVX2 and FMA; these and AVX-512 F, DQ, BW and VL.
bool runs_avx2();
bool runs_avx512();
// Products of bytes, of vectors of 256 and of 512 bits.
bool runs_avx_vnni();
bool runs_avx512_vnni();
// Products of tiles of bytes; asks the system for the registers, so it is called once.
bool runs_amx_int8();
// Products of bfloat16, of vectors of 512 bits and of tiles; the latter as runs_amx_int8.
bool runs_avx512_bf16();
bool runs_amx_bf16();

bool is_from_intel();

}  // namespace cnnlib
