// What the loops of a process know of each other.
#pragma once

#include "missing_cores.hpp"

namespace cnnlib {

MissingCores& missing_cores();
// Of the loops that the calling thread starts; 0 where none stands.
int threads_of_standing_team();

}  // namespace cnnlib
