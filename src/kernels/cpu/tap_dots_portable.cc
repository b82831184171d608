#define MINIM_TAP_DOTS TapDotsPortable
#define MINIM_TAP_DOTS_NAME "portable"
#include "kernels/cpu/tap_dots_impl.h"
