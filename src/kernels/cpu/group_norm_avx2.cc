#define MINIM_GROUP_NORM GroupNormAvx2
#define MINIM_GROUP_NORM_NAME "avx2"
#include "kernels/cpu/group_norm_impl.h"
