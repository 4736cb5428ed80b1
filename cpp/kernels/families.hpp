// The families of kernels, each compiled in a unit of its own for every instruction set: it returns its part
// of the table, with every field by name.
#pragma once

#include "kernels.hpp"

// A field without a value would be a null pointer: an error that names it, whatever the flags.
#pragma GCC diagnostic error "-Wmissing-field-initializers"
#ifdef __clang__
#pragma GCC diagnostic ignored "-Wc++20-designator"
#endif

namespace cnnlib::CNNLIB_ISA {

template <class T>
ConvKernels<T> conv_kernels();
template <class T>
InvertedResidualKernels<T> inverted_residual_kernels();
template <class T>
PoolKernels<T> pool_kernels();
template <class T>
NormKernels<T> norm_kernels();
template <class T>
DenseKernels<T> dense_kernels();
template <class T>
AttentionKernels<T> attention_kernels();
template <class T>
ElementwiseKernels<T> elementwise_kernels();
ByteLayers byte_layers();
ByteProducts byte_products();
BfloatKernels bfloat_kernels();

}  // namespace cnnlib::CNNLIB_ISA
