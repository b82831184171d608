#define MINIM_CONCAT_SCALE ConcatScalesBf16
#define MINIM_CONCAT_SCALE_NAME "avx512-bf16"
#include "kernels/cpu/concat_scale_impl.h"
