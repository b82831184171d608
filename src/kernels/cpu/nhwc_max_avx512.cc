#define MINIM_NHWC_MAX NhwcMaxAvx512
#include "kernels/cpu/nhwc_max_impl.h"
