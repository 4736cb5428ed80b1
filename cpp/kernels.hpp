// The border between what is compiled for the baseline and what is compiled once per instruction set:
// tables of functions on raw pointers and plain shapes.
#pragma once

#include <cstdint>
#include <utility>

#include "conv_plan.hpp"
#include "narrow_shapes.hpp"
#include "shapes.hpp"

namespace cnnlib {

// Gradients through ReLU, batch norm and convolution: of a batch norm with these statistics of `a`, the
// convolution's output. dx, dw and db may be null: not wanted.
template <class T>
struct ConvNormGradients {
  const T *dout, *x, *w, *a;
  const double *mean, *inv_std;
  const T *gamma, *beta;
  bool from_batch;
  T *dx, *dw, *db, *dgamma, *dbeta;
};

// The convolutions of an inverted residual, and what follows each of them.
template <class T>
struct InvertedResidualLayers {
  struct Layer {
    const T* w;
    Epilogue<T> epilogue;
  };
  Layer expand, depthwise, project;
};

// What softmax_loss is to reach: labels (N, inner), one of which may stand for none, or values (N, C, inner).
// Classes may have weights (C,); losses and gradients are multiplied by `scale`.
template <class T>
struct SoftmaxTargets {
  const std::int64_t* labels;
  const T *values, *weights;
  std::int64_t ignore;
  double scale;
};

// The families of kernels. A family's unit returns its struct with every field named; families.hpp makes a
// field without a value an error of the compiler.
template <class T>
struct ConvKernels {
  void (*conv_forward)(const T* x, const T* w, const T* b, T* out, const ConvRequest&, const Clamp<T>&);
  void (*conv_backward)(const GradientOperands<T>&, const ConvRequest&);
  void (*bias_gradient)(const T* dout, T* db, Index N, Index F, Index plane);
  // Whether a method can compute a pass; what a pass takes and how it will be computed; and the methods that
  // fit, from the cheapest on, of which it returns the number.
  bool (*conv_fits)(const ConvRequest&, Pass, Method);
  std::pair<ConvChoice, ConvExplanation> (*explain_conv)(const ConvRequest&, Pass);
  int (*conv_costs)(const ConvRequest&, Pass, ConvCosts&);
  // A plan of the forward pass, or of dx, which the caller deletes.
  const ConvPlan<T>* (*plan_conv)(const ConvRequest&, Pass);
};

template <class T>
struct InvertedResidualKernels {
  // An inverted residual in one pass, its weights packed once and kept; `other` (N, F, OH, OW), unless it is
  // null, is added before the last activation.
  Index (*inverted_residual_packed_size)(const InvertedResidualShape&);
  void (*pack_inverted_residual)(const InvertedResidualShape&, const InvertedResidualLayers<T>&, T* packed);
  void (*run_inverted_residual)(const InvertedResidualShape&, const InvertedResidualLayers<T>&,
                                const T* packed, const T* x, const T* other, T* out);
};

template <class T>
struct PoolKernels {
  // The argmax plane is of whole numbers of PoolShape::winner_bytes; forward may get null.
  void (*max_pool_forward)(const T* x, T* out, void* arg, const PoolShape&);
  void (*max_pool_backward)(const T* dout, const void* arg, T* dx, const PoolShape&);
  void (*avg_pool_forward)(const T* x, T* out, const PoolShape&);
  void (*avg_pool_backward)(const T* dout, T* dx, const PoolShape&);
  void (*upsample_forward)(const T* x, T* out, const UpsampleShape&);
  void (*upsample_backward)(const T* dout, T* dx, const UpsampleShape&);
};

template <class T>
struct NormKernels {
  void (*batchnorm_train)(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                          double* var, double* inv_std, const BatchNormShape&, const Clamp<T>&);
  void (*batchnorm_normalize)(const T* x, const double* mean, const double* inv_std, const T* gamma,
                              const T* beta, T* y, const BatchNormShape&, const Clamp<T>&);
  void (*batchnorm_backward)(const T* dout, const T* x, const double* mean, const double* inv_std,
                             const T* gamma, const T* beta, T* dx, T* dgamma, T* dbeta, const BatchNormShape&,
                             bool from_batch);
  // mean and inv_std (rows,) of the forward pass may both be null.
  void (*rownorm_forward)(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                          double* inv_std, const RowNormShape&);
  void (*rownorm_backward)(const T* dout, const T* x, const double* mean, const double* inv_std,
                           const T* gamma, T* dx, T* dgamma, T* dbeta, const RowNormShape&);
  // Of a convolution with batch norm and ReLU behind it.
  void (*conv_bn_relu_backward)(const ConvNormGradients<T>&, const ConvRequest&);
  ConvNormScratch (*conv_bn_relu_scratch)(const ConvRequest&);
};

template <class T>
struct DenseKernels {
  void (*affine_forward)(const T* x, const T* w, const T* b, T* out, const DenseShape&, const Clamp<T>&);
  void (*affine_backward)(const T* dout, const T* x, const T* w, T* dx, T* dw, T* db, const DenseShape&);

  void (*matmul)(const T* a, const T* b, T* c, const MatmulShape&);

  // Losses, which are returned, and their gradients dx.
  double (*softmax_loss)(const T* x, const SoftmaxTargets<T>&, T* dx, Index N, Index C, Index inner);
  double (*pointwise_loss)(PointwiseLoss, const T* x, const T* y, const T* weights, double option, T* dx,
                           Index n);
  double (*dice_loss)(const T* x, const T* y, T* dx, Index maps, Index size);

  // Over the axis of C of x (N, C, inner); copy gets the result too, or is null.
  void (*softmax_forward)(const T* x, T* out, T* copy, Index N, Index C, Index inner);
  void (*softmax_backward)(const T* dout, const T* y, T* dx, Index N, Index C, Index inner);
};

// The gradients of attention. most and total (N, heads, L) are the forward pass's, each row's largest score
// and its sum of exponentials; bias may be null, and so may dbias: not wanted.
template <class T>
struct AttentionGradients {
  const T *dout, *q, *k, *v, *bias, *out, *most, *total;
  T *dq, *dk, *dv, *dbias;
};

template <class T>
struct AttentionKernels {
  // bias may be null; copy gets the result too, most and total (N, heads, L) what the backward pass takes,
  // or they are null, the last two together.
  void (*attention_forward)(const T* q, const T* k, const T* v, const T* bias, T* out, T* copy, T* most,
                            T* total, const AttentionShape&);
  void (*attention_backward)(const AttentionGradients<T>&, const AttentionShape&);
};

template <class T>
struct ElementwiseKernels {
  // A ReLU's mask: one bit for each of n elements, from the lowest of a byte on.
  void (*relu_mask)(const T* x, std::uint8_t* bits, Index n);
  void (*relu_backward_by_mask)(const T* dout, const std::uint8_t* bits, T* dx, Index n);
  void (*join)(Join, const T* a, const T* b, T* out, Index n);
  // b has a value for each plane of S values.
  void (*join_planes)(Join, const T* a, const T* b, T* out, Index planes, Index S);
  void (*normalize_bytes)(const std::uint8_t* x, const T* mean, const T* std, T* out, Index planes, Index C,
                          Index S);
  // alpha is leaky_relu's and elu's. Where the gradient is taken from the result, copy gets it too, or is
  // null; else it counts for nothing. What is kept is the result there, and x elsewhere.
  void (*activation_forward)(Activation, const T* x, T* out, T* copy, T alpha, Index n);
  void (*activation_backward)(Activation, const T* dout, const T* kept, T* dx, T alpha, Index n);

  void (*sgd_step)(T* w, const T* dw, double scale, double rate, Index n);
  void (*momentum_step)(T* w, const T* dw, double scale, T* velocity, double rate, double momentum,
                        bool nesterov, Index n);
  void (*rmsprop_step)(T* w, const T* dw, double scale, T* a, double rate, double decay, double epsilon,
                       Index n);
  void (*adam_step)(T* w, const T* dw, double scale, T* v, T* a, double rate, double beta1, double beta2,
                    double epsilon, double weight_decay, Index t, Index n);
  double (*sum_of_squares)(const T* x, Index n);
};

// How a convolution of narrow values is computed, of weights as they are `Given`.
template <class Value, class Given>
struct NarrowMethod {
  const char* name;
  // Weights, and the numbers of each filter, packed for `run`.
  Index (*packed_bytes)(const NarrowConv<Value>&);
  void (*pack)(const NarrowConv<Value>&, Given w, const FilterNumbers<Value>&, void* packed);
  // `other` is the term that the epilogue adds, or null; y is narrow values, or scores.
  void (*run)(const NarrowConv<Value>&, const std::uint8_t* x, const std::uint8_t* other, const void* packed,
              void* y, Index images);
};
using ByteMethod = NarrowMethod<std::uint8_t, const std::int8_t*>;
using BfloatMethod = NarrowMethod<Bfloat16, WeightView>;

// Of eight-bit networks, the products: apart from the rest, since a processor with VNNI or AMX has its own.
struct ByteProducts {
  const char* name;
  ByteMethod (*method)(const ByteConv&);  // null pointers where none serves
};

struct ByteLayers {
  void (*quantize)(const float* x, const ByteImage&, float scale, int zero, std::uint8_t* y, Index images);
  void (*dequantize)(const std::uint8_t* x, const ByteImage&, float scale, int zero, float* y, Index images);
  void (*max_pool)(const BytePool&, int zero, const std::uint8_t* x, std::uint8_t* y, Index images);
  void (*avg_pool)(const BytePool&, int x_zero, float ratio, const Epilogue<std::uint8_t>&,
                   const std::uint8_t* x, std::uint8_t* y, Index images);
  void (*add)(const ByteSum&, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y, Index images);
  // y = table[x], of 256 bytes
  void (*look_up)(const ByteImage& x, const ByteImage& y, const std::uint8_t* table, int zero,
                  const std::uint8_t* from, std::uint8_t* to, Index images);
  // The channels of x become those of y from `first` on.
  void (*copy_channels)(const ByteImage& x, const ByteImage& y, Index first, int zero,
                        const std::uint8_t* from, std::uint8_t* to, Index images);
};

// A function of n floats, as ElementwiseKernels have it.
using BfloatFunction = void (*)(Activation, const float* x, float* out, float* copy, float alpha, Index n);
using BfloatFunctionGradient = void (*)(Activation, const float* dout, const float* kept, float* dx,
                                        float alpha, Index n);

using BfloatMethodOf = BfloatMethod (*)(const BfloatConv&);

// Everything on bfloat16. Only extensions that multiply it have kernels: other processors compute in float32.
struct BfloatKernels {
  const char* name;
  BfloatMethodOf method;  // of null pointers where none serves
  void (*narrow)(const float* x, const BfloatImage&, std::uint8_t* y, Index images);
  void (*widen)(const std::uint8_t* x, const BfloatImage&, float* y, Index images);
  void (*max_pool)(const BfloatPool&, const std::uint8_t* x, std::uint8_t* y, Index images);
  void (*avg_pool)(const BfloatPool&, const std::uint8_t* x, std::uint8_t* y, Index images);
  void (*join)(const BfloatJoin&, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y,
               Index images);
  void (*activate)(const BfloatImage& x, const BfloatImage& y, Activation, float alpha, BfloatFunction,
                   const std::uint8_t* from, std::uint8_t* to, Index images);
  // The channels of x become those of y from `first` on.
  void (*copy_channels)(const BfloatImage& x, const BfloatImage& y, Index first, const std::uint8_t* from,
                        std::uint8_t* to, Index images);

  // Training: weights are packed at each call. Gradients of values are images like the values.
  bool (*gradients_fit)(const BfloatConv&);
  // They take the method of a convolution, since an extension has some of its own.
  void (*conv_forward)(BfloatMethodOf, const BfloatConv&, const float* w, const float* b,
                       const std::uint8_t* x, std::uint8_t* y, Index images);
  void (*conv_backward)(BfloatMethodOf, const BfloatConv&, const BfloatConvGradients&, Index images);
  void (*norm_train)(const BfloatNorm&, const std::uint8_t* x, const float* gamma, const float* beta,
                     double eps, std::uint8_t* y, double* mean, double* var, double* inv_std, Index images);
  void (*norm_backward)(const BfloatNorm&, const BfloatNormGradients&, Index images);
  // places (images, OH, OW, channels) of maxima in their windows
  void (*max_pool_with_places)(const BfloatPool&, const std::uint8_t* x, std::uint8_t* y,
                               std::uint16_t* places, Index images);
  void (*max_pool_backward)(const BfloatPool&, const std::uint8_t* dout, const std::uint16_t* places,
                            std::uint8_t* dx, Index images);
  void (*avg_pool_backward)(const BfloatPool&, const std::uint8_t* dout, std::uint8_t* dx, Index images);
  void (*relu_backward)(const BfloatImage&, const std::uint8_t* dout, const std::uint8_t* y, std::uint8_t* dx,
                        Index images);
  // `kept` is how the values lie that the function's gradient takes: those of x or of y.
  void (*activate_backward)(const BfloatImage& kept, const BfloatImage& y, const BfloatImage& x, Activation,
                            float alpha, BfloatFunctionGradient, const std::uint8_t* dout,
                            const std::uint8_t* values, std::uint8_t* dx, Index images);
  // The channels of x from `first` on become those of y.
  void (*take_channels)(const BfloatImage& x, Index first, const BfloatImage& y, const std::uint8_t* from,
                        std::uint8_t* to, Index images);
};

// All of them.
template <class T>
struct Kernels : ConvKernels<T>,
                 InvertedResidualKernels<T>,
                 PoolKernels<T>,
                 NormKernels<T>,
                 DenseKernels<T>,
                 AttentionKernels<T>,
                 ElementwiseKernels<T> {};

// The kernels of one instruction set.
struct Isa {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  ByteLayers bytes;
  ByteProducts products;
};

// The set in use, chosen at load time or by use_isa.
const Isa& active_isa();

// Its products of bytes, or those of its fastest extension that multiplies bytes (AMX, VNNI), where the
// processor has it and CNNLIB_INT8 allows it. They differ in speed alone.
const ByteProducts& active_products();

// The kernels for bfloat16 of the set's fastest extension that multiplies it, where the processor has one and
// CNNLIB_BFLOAT16 allows it; else null. Extensions differ in bits.
const BfloatKernels* active_bfloat16();

}  // namespace cnnlib
