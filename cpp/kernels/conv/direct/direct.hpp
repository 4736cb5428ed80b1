// Methods for every stride, padding, dilation and grouping, compiled in a unit of its own.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are output positions (pixel_lanes.hpp) or filters (filter_lanes.hpp).
template <class T>
void describe_pixel_lanes(ConvPlan&);
template <class T>
void pack_pixel_lanes(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_pixel_lanes(const ConvPlan&, const ConvOperands<T>&);

template <class T>
void describe_filter_lanes(ConvPlan&);
template <class T>
void pack_filter_lanes(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_filter_lanes(const ConvPlan&, const ConvOperands<T>&);

// Both, for 1x1 kernels of many channels (position_panels.hpp).
template <class T>
void describe_position_panels(ConvPlan&);
template <class T>
void pack_position_panels(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_position_panels(const ConvPlan&, const ConvOperands<T>&);

// dx of few channels (col2im.hpp).
template <class T>
void describe_col2im(ConvPlan&);
template <class T>
void pack_col2im(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_col2im(const ConvPlan&, const ConvOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
