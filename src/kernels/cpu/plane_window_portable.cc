#define MINIM_PLANES PlanesPortable
#define MINIM_PLANES_NAME "portable"
#include "kernels/cpu/plane_window_impl.h"
