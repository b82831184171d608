#define MINIM_CELLS CellsAvx512
#include "kernels/cpu/recurrent_cell_impl.h"
