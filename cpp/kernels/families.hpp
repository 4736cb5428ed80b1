// The families of kernels, each compiled in a unit of its own for every instruction set: it fills its fields
// of the table, by name.
#pragma once

#include "kernels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_conv(Kernels<T>&);
template <class T>
void fill_conv_norm(Kernels<T>&);
template <class T>
void fill_inverted_residual(Kernels<T>&);
template <class T>
void fill_pool(Kernels<T>&);
template <class T>
void fill_norm(Kernels<T>&);
template <class T>
void fill_dense(Kernels<T>&);
template <class T>
void fill_elementwise(Kernels<T>&);

}  // namespace cnnlib::CNNLIB_ISA
