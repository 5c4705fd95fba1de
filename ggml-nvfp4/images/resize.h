// Bicubic resize with antialias of 8-bit RGB, the bytes of Torchvision's resize() of uint8 tensors on a CPU.
//
// Two passes, columns first, 8 bits between them; a pass is left out where the size stays. An output pixel o is a weighted
// sum of the input pixels around (o + 0.5) * scale, scale = input / output, within 2 * max(scale, 1) of it, with the weights
// of the cubic convolution of a = -0.5 stretched by max(scale, 1) and normalized to a sum of 1. The weights of a pass are
// 16-bit integers with as many fractional bits, at most 22, as the largest one leaves room for; sums are rounded half up and
// clamped to 0..255.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "images/image.h"

#include <cstdint>

namespace gnv {

// `width` and `height` are above 0, and so are the image's. Fails only for want of memory, or when the pool's watch stops it.
// Without a pool the caller's thread does all; the bytes do not depend on it.
Result<Image> resize_bicubic(const Image & image, int64_t width, int64_t height, ThreadPool * pool = nullptr);

} // namespace gnv
