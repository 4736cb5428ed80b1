// A batch cut into slices, each of which one thread takes through several steps.
#pragma once

#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Scalar multiply-adds of a pass, in the unit of threads_for.
inline double conv_work(const ConvShape& s) {
  return 2.0 / 16 * double(s.N * s.F) * double(s.C / s.groups * s.KH * s.KW) * double(s.OH * s.OW);
}

struct BatchSlices {
  Index N, count;

  Index first(Index slice) const { return N * slice / count; }
  Index most_images() const { return ceil_div(N, count); }

  // body(slice, first image, shape of the slice) for all slices, each on one thread.
  template <class Body>
  void each(const ConvShape& s, double work, const Body& body) const {
    each_on_its_own(count, threads_for(work), [&](Index slice) {
      ConvShape part = s;
      part.N = first(slice + 1) - first(slice);
      body(slice, first(slice), part);
    });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
