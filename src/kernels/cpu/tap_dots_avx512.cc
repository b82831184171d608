#define MINIM_TAP_DOTS TapDotsAvx512
#define MINIM_TAP_DOTS_NAME "avx512"
#include "kernels/cpu/tap_dots_impl.h"
