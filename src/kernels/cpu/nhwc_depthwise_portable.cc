#define MINIM_NHWC_DEPTHWISE NhwcDepthwisesPortable
#define MINIM_NHWC_DEPTHWISE_NAME "portable"
#include "kernels/cpu/nhwc_depthwise_impl.h"
