// The table's entries for pooling and upsampling.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/pool/adaptive_pool.hpp"
#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/max_pool.hpp"
#include "kernels/pool/max_pool_gradient.hpp"
#include "kernels/pool/upsample.hpp"

namespace cnnlib::CNNLIB_ISA {

// A max pool whose windows cut a plane without a rest, as an adaptive one.
inline bool cuts_planes(const PoolShape& s) {
  return s.OH * s.PH == s.H && s.OW * s.PW == s.W && (s.OH == 1 || s.stride_h == s.PH) &&
         (s.OW == 1 || s.stride_w == s.PW) && s.pad_top == 0 && s.pad_left == 0 && s.dilation_h == 1 &&
         s.dilation_w == 1;
}
template <class T, class Arg>
void max_pool_of_parts(const T* x, T* out, Arg* arg, const PoolShape& s) {
  const AdaptivePoolShape parts{s.planes, s.H, s.W, s.OH, s.OW};
  if (arg == nullptr) return adaptive_max_pool_forward<T>(x, out, nullptr, parts);
  const ScratchArray<std::int64_t> places(s.planes * s.OH * s.OW);
  const std::int64_t* place = places.data();
  adaptive_max_pool_forward<T>(x, out, places.data(), parts);
  for (Index plane = 0; plane < s.planes; ++plane)
    for (Index oh = 0; oh < s.OH; ++oh)
      for (Index ow = 0; ow < s.OW; ++ow, ++place) {
        const Index h = *place / s.W, w = *place - h * s.W;
        *arg++ = static_cast<Arg>((h - oh * s.PH) * s.PW + w - ow * s.PW);
      }
}

template <class T>
void any_max_pool_forward(const T* x, T* out, void* arg, const PoolShape& s) {
  if (small_windows(s) || !cuts_planes(s)) return max_pool_forward<T>(x, out, arg, s);
  if (s.winner_bytes() == 1)
    max_pool_of_parts(x, out, static_cast<std::uint8_t*>(arg), s);
  else
    max_pool_of_parts(x, out, static_cast<std::uint32_t*>(arg), s);
}

template <class T>
PoolKernels<T> pool_kernels() {
  return {
      .max_pool_forward = &any_max_pool_forward<T>,
      .max_pool_backward = &max_pool_backward<T>,
      .avg_pool_forward = &avg_pool_forward<T>,
      .avg_pool_backward = &avg_pool_backward<T>,
      .adaptive_max_pool_forward = &adaptive_max_pool_forward<T>,
      .adaptive_max_pool_backward = &adaptive_max_pool_backward<T>,
      .adaptive_avg_pool_forward = &adaptive_avg_pool_forward<T>,
      .adaptive_avg_pool_backward = &adaptive_avg_pool_backward<T>,
      .upsample_forward = &upsample_forward<T>,
      .upsample_backward = &upsample_backward<T>,
  };
}
template PoolKernels<float> pool_kernels();
template PoolKernels<double> pool_kernels();

}  // namespace cnnlib::CNNLIB_ISA
