#define MINIM_NHWC_MAX NhwcMaxPortable
#include "kernels/cpu/nhwc_max_impl.h"
