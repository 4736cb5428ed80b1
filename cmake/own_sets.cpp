// Prints the instruction sets that kernels can be compiled for and that this processor runs: a list of
// CMake's.
#include <cstdio>

#include "../cpp/machine/instruction_sets.cpp"

bool cnnlib::may_use_tile_registers() { return false; }  // not asked for here

int main() {
  std::printf("base%s%s", cnnlib::runs_avx2() ? ";avx2" : "", cnnlib::runs_avx512() ? ";avx512" : "");
}
