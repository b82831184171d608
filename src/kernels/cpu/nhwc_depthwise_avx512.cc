#define MINIM_NHWC_DEPTHWISE NhwcDepthwisesAvx512
#define MINIM_NHWC_DEPTHWISE_NAME "avx512"
#include "kernels/cpu/nhwc_depthwise_impl.h"
