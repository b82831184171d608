#define MINIM_TAP_DOTS TapDotsAvx2
#define MINIM_TAP_DOTS_NAME "avx2"
#include "kernels/cpu/tap_dots_impl.h"
