// Which instruction set's kernels run.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace cnnlib {

// Sets that were compiled and that this processor runs, the best one first.
std::vector<std::string> available_isas();

// Sets that were not compiled, with commas.
const char* isas_left_out();

// Switches to a set by name; std::invalid_argument for one that is unknown or cannot run here.
void use_isa(const std::string& name);

// The most that active_products may use beside its set: none, vnni, or amx, which is the default where
// CNNLIB_INT8 names no other. std::invalid_argument for another name.
std::string int8_limit();
void limit_int8(const std::string& name);

// The most that active_bfloat16 may use: none, avx512bf16, or amx, which is the default where CNNLIB_BFLOAT16
// names no other. std::invalid_argument for another name.
std::string bfloat16_limit();
void limit_bfloat16(const std::string& name);

}  // namespace cnnlib
