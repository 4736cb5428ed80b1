// Which instruction set's kernels run.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace cnnlib {

// Sets that were compiled and that this processor runs, the best one first.
std::vector<std::string> available_isas();

// Switches to a set by name; std::invalid_argument for one that is unknown or cannot run here.
void use_isa(const std::string& name);

// Whether active_products may be VNNI's; at first so, unless CNNLIB_VNNI is 0.
void use_vnni(bool wanted);

}  // namespace cnnlib
