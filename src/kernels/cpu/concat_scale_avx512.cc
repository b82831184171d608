#define MINIM_CONCAT_SCALE ConcatScalesAvx512
#define MINIM_CONCAT_SCALE_NAME "avx512"
#include "kernels/cpu/concat_scale_impl.h"
