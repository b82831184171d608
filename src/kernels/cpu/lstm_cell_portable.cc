#define MINIM_CELL LstmCellPortable
#include "kernels/cpu/lstm_cell_impl.h"
