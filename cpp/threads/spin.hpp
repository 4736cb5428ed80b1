// Waiting for another thread.
#pragma once

#include <thread>

namespace cnnlib {

// One step of waiting. After some 50 us the processor is offered to others.
inline void spin(int spins) {
  constexpr int most_spins = 2000;
  if (spins > most_spins) return std::this_thread::yield();
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace cnnlib
