#define MINIM_GROUP_NORM GroupNormPortable
#define MINIM_GROUP_NORM_NAME "portable"
#include "kernels/cpu/group_norm_impl.h"
