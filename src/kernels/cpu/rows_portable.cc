#define MINIM_ROWS RowsPortable
#define MINIM_ROWS_NAME "portable"
#include "kernels/cpu/rows_impl.h"
