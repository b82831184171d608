#define MINIM_PLANES PlanesAvx2
#define MINIM_PLANES_NAME "avx2"
#include "kernels/cpu/plane_window_impl.h"
