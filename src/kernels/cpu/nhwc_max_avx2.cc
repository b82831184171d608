#define MINIM_NHWC_MAX NhwcMaxAvx2
#include "kernels/cpu/nhwc_max_impl.h"
