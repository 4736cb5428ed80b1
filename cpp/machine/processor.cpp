#include "processor.hpp"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <stdexcept>
#include <thread>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

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
  for (std::size_t at = 0; at < list.size();) {
    const std::size_t end = std::min(list.find(',', at), list.size());
    const std::string range = list.substr(at, end - at);
    const std::size_t dash = range.find('-');
    count +=
        dash == std::string::npos ? 1 : std::atoi(range.c_str() + dash + 1) - std::atoi(range.c_str()) + 1;
    at = end + 1;
  }
  return std::max<Index>(count, 1);
}

std::string processor_folder(const std::string& folder, int processor) {
  return folder + "/cpu" + std::to_string(processor);
}

// The logical processors that this thread may run on; none where the system does not say.
std::vector<int> allowed_processors() {
  std::vector<int> processors;
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) processors.push_back(i);
#endif
  return processors;
}

constexpr const char* system_folder = "/sys/devices/system/cpu";

#ifdef __APPLE__
Index sysctl_number(const char* name) {
  std::int64_t value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? static_cast<Index>(value) : 0;
}
#endif

Caches found_caches() {
#ifdef __APPLE__
  const Index l1 = sysctl_number("hw.perflevel0.l1dcachesize"),
              l2 = sysctl_number("hw.perflevel0.l2cachesize"),
              sharing = std::max<Index>(sysctl_number("hw.perflevel0.cpusperl2"), 1);
  if (l1 > 0 && l2 > 0) return {l1, l2 / sharing, l2 / sharing};
  return usual;
#else
  std::vector<int> processors = allowed_processors();
  // Cores of several kinds are numbered kind by kind.
  if (processors.size() > 2) processors = {processors.front(), processors.back()};
  return system_caches(system_folder, processors);
#endif
}

}  // namespace

Caches parse_caches(const std::string& text) {
  Index sizes[3] = {};
  std::size_t at = 0;
  for (Index& size : sizes) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    size = bytes_in(text.substr(std::min(at, text.size()), end - std::min(at, end)));
    at = end + 1;
  }
  if (at <= text.size() || sizes[0] < 4 << 10 || sizes[1] < sizes[0] || sizes[2] < sizes[1])
    throw std::invalid_argument(
        "CNNLIB_CACHES must be sizes of the first, second and third level that do not decrease, from 4K on, "
        "as '32K,512K,4M', got '" +
        text + "'");
  return {sizes[0], sizes[1], sizes[2]};
}

Caches system_caches(const std::string& folder, const std::vector<int>& processors) {
  Index found[3] = {};
  for (const int processor : processors) {
    const std::string siblings =
        first_line(processor_folder(folder, processor) + "/topology/thread_siblings_list");
    const Index of_core = siblings.empty() ? 1 : count_in(siblings);
    for (int i = 0;; ++i) {
      const std::string cache =
          processor_folder(folder, processor) + "/cache/index" + std::to_string(i) + "/";
      const std::string level = first_line(cache + "level");
      if (level.empty()) break;
      const int at = std::atoi(level.c_str()) - 1;
      if (at < 0 || at > 2 || first_line(cache + "type") == "Instruction") continue;
      // A core's hyper-threads share what it has, and kernels start one thread for each core.
      const Index sharers = ceil_div(count_in(first_line(cache + "shared_cpu_list")), of_core);
      const Index share = bytes_in(first_line(cache + "size")) / sharers;
      if (share > 0) found[at] = found[at] > 0 ? std::min(found[at], share) : share;
    }
  }
  if (found[0] == 0) return usual;
  const Index l2 = std::max(found[0], found[1]);  // a processor may lack the upper ones
  return {found[0], l2, std::max(std::min(found[2], most_l3), l2)};
}

int system_cores(const std::string& folder, const std::vector<int>& processors) {
  std::set<std::string> cores;
  for (const int processor : processors) {
    const std::string siblings =
        first_line(processor_folder(folder, processor) + "/topology/thread_siblings_list");
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
  static const std::size_t bytes = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_is("intel")) return std::size_t{8} << 20;
#endif
    return std::size_t{64} << 20;
  }();
  return bytes;
}

int physical_cores() {
  const std::vector<int> processors = allowed_processors();
#ifdef __APPLE__
  const Index cores = sysctl_number("hw.physicalcpu");
  if (cores > 0) return static_cast<int>(cores);
#endif
  if (processors.empty()) return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return system_cores(system_folder, processors);
}

}  // namespace cnnlib
