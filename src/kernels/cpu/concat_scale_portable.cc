#define MINIM_CONCAT_SCALE ConcatScalesPortable
#define MINIM_CONCAT_SCALE_NAME "portable"
#include "kernels/cpu/concat_scale_impl.h"
