#define MINIM_NHWC_POOL NhwcPoolsAvx512
#include "kernels/cpu/nhwc_pool_impl.h"
