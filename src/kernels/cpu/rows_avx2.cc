#define MINIM_ROWS RowsAvx2
#define MINIM_ROWS_NAME "avx2"
#include "kernels/cpu/rows_impl.h"
