#include "processor.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "instruction_sets.hpp"
#include "system.hpp"

namespace cnnlib {
namespace {

// Where the system says nothing: the least that processors of the last ten years have.
constexpr Caches usual = {32 << 10, 256 << 10, 2 << 20};
// A virtual machine sees the whole third level of its host, whose other tenants use it, too.
constexpr Index most_l3 = 16 << 20;

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "48K", "2M" or "4096" in bytes, 0 where it is no such number.
Index bytes_in(const std::string& text) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const double factor = unit.empty() ? 1 : unit == "K" ? 1 << 10 : unit == "M" ? 1 << 20 : 0;
  const double bytes = number * factor;
  return bytes >= 1 && bytes <= 1e12 ? static_cast<Index>(bytes) : 0;
}

// How many numbers a list like "0-3,8" has.
Index count_in(const std::string& list) {
  Index count = 0;
  std::istringstream ranges(list);
  for (std::string range; std::getline(ranges, range, ',');) {
    const std::size_t dash = range.find('-');
    count +=
        dash == std::string::npos ? 1 : std::atoi(range.c_str() + dash + 1) - std::atoi(range.c_str()) + 1;
  }
  return std::max<Index>(count, 1);
}

std::string processor_folder(const std::string& folder, int processor) {
  return folder + "/cpu" + std::to_string(processor);
}
std::string siblings_of(const std::string& folder, int processor) {
  return first_line(processor_folder(folder, processor) + "/topology/thread_siblings_list");
}

Caches parse_caches(const std::string& text) {
  Index sizes[3] = {};
  std::istringstream parts(text);
  std::string part;
  for (Index& size : sizes) size = std::getline(parts, part, ',') ? bytes_in(part) : 0;
  if (!parts.eof() || sizes[0] < 4 << 10 || sizes[1] < sizes[0] || sizes[2] < sizes[1])
    throw std::invalid_argument(
        "CNNLIB_CACHES must be sizes of the first, second and third level that do not decrease, from 4K on, "
        "as '32K,512K,4M', got '" +
        text + "'");
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace

void LeastCaches::add(int level, Index bytes, Index sharers) {
  const Index share = bytes / std::max<Index>(sharers, 1);
  if (level < 1 || level > 3 || share <= 0) return;
  Index& least = least_[level - 1];
  least = least > 0 ? std::min(least, share) : share;
}

Caches LeastCaches::sizes() const {
  if (least_[0] == 0) return usual;
  const Index l2 = std::max(least_[0], least_[1]);  // a processor may lack the upper ones
  return {least_[0], l2, std::max(std::min(least_[2], most_l3), l2)};
}

Caches system_caches(const std::string& folder, const std::vector<int>& processors) {
  LeastCaches least;
  for (const int processor : processors) {
    const std::string siblings = siblings_of(folder, processor);
    const Index of_core = siblings.empty() ? 1 : count_in(siblings);
    for (int i = 0;; ++i) {
      const std::string cache =
          processor_folder(folder, processor) + "/cache/index" + std::to_string(i) + "/";
      const std::string level = first_line(cache + "level");
      if (level.empty()) break;
      if (first_line(cache + "type") == "Instruction") continue;
      // A core's hyper-threads share what it has, and kernels start one thread for each core.
      const Index sharers = ceil_div(count_in(first_line(cache + "shared_cpu_list")), of_core);
      least.add(std::atoi(level.c_str()), bytes_in(first_line(cache + "size")), sharers);
    }
  }
  return least.sizes();
}

int system_cores(const std::string& folder, const std::vector<int>& processors) {
  std::set<std::string> cores;
  for (const int processor : processors) {
    const std::string siblings = siblings_of(folder, processor);
    cores.insert(siblings.empty() ? std::to_string(processor) : siblings);
  }
  return static_cast<int>(cores.size());
}

const Caches& caches() {
  static const Caches sizes = [] {
    const char* text = std::getenv("CNNLIB_CACHES");
    return text != nullptr && *text != '\0' ? parse_caches(text) : found_caches();
  }();
  return sizes;
}

// Intel's servers share a last-level cache across a mesh, hardly faster than memory for two cores; elsewhere
// 32 MB close to a few cores are usual.
std::size_t past_caches_bytes() {
  static const std::size_t bytes = std::size_t{is_from_intel() ? 8u : 64u} << 20;
  return bytes;
}

int physical_cores() {
  const int cores = found_cores();
  return cores > 0 ? cores : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace cnnlib
