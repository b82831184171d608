#define MINIM_NHWC_POOL NhwcPoolsPortable
#include "kernels/cpu/nhwc_pool_impl.h"
