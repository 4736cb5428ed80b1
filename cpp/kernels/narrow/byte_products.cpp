// The table's entries for products of bytes; also compiled for the sets' extensions that multiply bytes.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/narrow/byte_depthwise.hpp"
#include "kernels/narrow/byte_winograd.hpp"
#include "kernels/narrow/conv.hpp"
#include "kernels/narrow/tiles.hpp"

#ifdef __AMX_INT8__
namespace cnnlib::avx512vnni {
ByteProducts byte_products();
}
#endif

namespace cnnlib::CNNLIB_ISA {
namespace {

// A method and the convolutions that it computes.
struct ByteRow {
  bool (*fits)(const ByteConv&);
  ByteMethod method;
};

// The first that fits is taken. Sums are exact: a row decides how weights are packed, and no bit.
#ifdef __AMX_INT8__
constexpr ByteRow byte_rows[] = {
    {&tiles_fit,
     {"int8", &packed_bytes<TilePanels<ByteFormat>, ByteConv>, &pack_tiles<ByteFormat>,
      &conv_by_tiles<ByteFormat>}},
};
ByteMethod otherwise(const ByteConv& c) { return avx512vnni::byte_products().method(c); }
#else
constexpr ByteRow byte_rows[] = {
    {&depthwise_fits,
     {"int8 depthwise", &packed_bytes<DepthwisePanels, ByteConv>, &pack_depthwise, &depthwise}},
    {&winograd_fits, {"int8", &packed_bytes<WinogradPanels, ByteConv>, &pack_winograd, &winograd}},
    {&conv_fits,
     {"int8", &packed_bytes<ConvPanels<ByteFormat>, ByteConv>, &pack_conv<ByteFormat>, &conv<ByteFormat>}},
};
ByteMethod otherwise(const ByteConv&) { return {}; }
#endif

ByteMethod method_of(const ByteConv& c) {
  for (const ByteRow& row : byte_rows)
    if (row.fits(c)) return row.method;
  return otherwise(c);
}

}  // namespace

ByteProducts byte_products() { return {.name = CNNLIB_ISA_NAME, .method = &method_of}; }

}  // namespace cnnlib::CNNLIB_ISA
