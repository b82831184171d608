#define MINIM_NHWC_POOL NhwcPoolsAvx2
#include "kernels/cpu/nhwc_pool_impl.h"
