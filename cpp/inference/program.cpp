#include "program.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

#include "../machine/processor.hpp"
#include "../memory/scratch.hpp"
#include "../threads/parallel.hpp"

namespace cnnlib {
namespace {

// Room for the values of some images: each call and each thread has its own.
Scratch new_arena(Index image_bytes, Index images) {
  return Scratch(checked_product(static_cast<std::size_t>(image_bytes), static_cast<std::size_t>(images)));
}

}  // namespace

void Program::add(Step step) {
  work_ += step.work;
  weight_bytes_ += step.weight_bytes;
  steps_.push_back(std::move(step));
}

// Images [first, first + images) through all steps.
void Program::run_images(const Samples& input, const Weights& weights, Out output, Index first,
                         Index images) const {
  const Scratch memory = new_arena(arena_bytes_ + (input.bytes != nullptr ? input_bytes_ : 0), images);
  const Out arena = memory.data(), converted = arena + arena_bytes_ * images;
  if (input.bytes != nullptr)
    kernels([&](const auto& k) {
      k.normalize_bytes(input.bytes + first * input.C * input.S, input.mean, input.std, converted,
                        input.C * images, input.C, input.S);
    });
  const In values = input.bytes != nullptr ? In(converted) : input.values + first * input_bytes_;
  const Out to = output + first * output_bytes_;
  const Frame frame{values_.data(), &weights, values, to, arena, images};
  for (const Step& step : steps_) step.run(frame);
}

// Whether the values of one image stay in a thread's second-level cache.
bool Program::small_images() const { return double(arena_bytes_) <= double(l2_for_blocks()); }

// As many as leave their values in a thread's second-level cache, or in as much memory as half of the
// weights, which every group of images reads anew.
Index Program::images_at_a_time(Index N, int threads) const {
  constexpr double least_large = 8;  // then reading the weights costs little
  const double image = std::max(1.0, double(arena_bytes_)), share = double(ceil_div(N, threads));
  const double room = std::max<double>(double(l2_for_blocks()), double(weight_bytes_) / 2);
  const double images = std::max(room / image, small_images() ? 1 : least_large);
  return even_part(ceil_div(N, threads), static_cast<Index>(std::min(images, share)));
}

// Threads take small images for themselves. Large ones go from layer to layer together, with all threads on
// each layer: the weights, for which a cache may have no room, are read once for all of them.
void Program::run(const Samples& input, const Weights& weights, Out output, Index N) const {
  const int threads = static_cast<int>(std::min<Index>(N, threads_for(work_ * double(N))));
  const Index apart = threads > 1 && small_images() ? N / threads * threads : 0;
  if (apart > 0) {
    const Index images = images_at_a_time(apart, threads);
    each_on_its_own(ceil_div(apart, images), threads, [&](Index task) {
      run_images(input, weights, output, task * images, std::min(images, apart - task * images));
    });
  }
  const Index images = apart > 0 ? 1 : images_at_a_time(std::max<Index>(1, N), 1);
  if (apart < N)
    with_standing_team(threads_for(work_ * double(images)), [&] {
      for (Index first = apart; first < N; first += images)
        run_images(input, weights, output, first, std::min(images, N - first));
    });
}

std::vector<double> Program::profile(In input, const Weights& weights, Out output, Index N,
                                     int repeats) const {
  using Clock = std::chrono::steady_clock;
  const Scratch memory = new_arena(arena_bytes_, N);
  const Frame all{values_.data(), &weights, input, output, memory.data(), N};
  if (N == 0) return std::vector<double>(steps_.size());  // steps expect images
  std::vector<double> least(steps_.size(), std::numeric_limits<double>::infinity());
  with_standing_team(threads_for(work_ * double(N)), [&] {
    for (int i = 0; i < std::max(1, repeats); ++i)
      for (std::size_t k = 0; k < steps_.size(); ++k) {
        const auto start = Clock::now();
        steps_[k].run(all);
        least[k] = std::min(least[k], std::chrono::duration<double>(Clock::now() - start).count());
      }
  });
  return least;
}

}  // namespace cnnlib
