#define MINIM_GROUP_NORM GroupNormAvx512
#define MINIM_GROUP_NORM_NAME "avx512"
#include "kernels/cpu/group_norm_impl.h"
