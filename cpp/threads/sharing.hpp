// What it costs threads to share data.
#pragma once

#include <optional>

namespace cnnlib {

// Whether data that one of the threads wrote is expensive for another to read, as where their cores share no
// cache. It is measured, now and then: a virtual machine's cores move. Where the threads do not run at the
// same time the last answer stands, at first no, and is measured again ever later.
bool sharing_is_expensive(int threads);
// The least nanoseconds that a cache line takes from the first thread to the last one and back; nothing where
// one of them does not answer at once.
std::optional<double> sharing_round_trip(int threads);
// From now on it is, or is not, or is measured again. No result depends on it, and tests try both.
void assume_sharing(std::optional<bool> expensive);

}  // namespace cnnlib
