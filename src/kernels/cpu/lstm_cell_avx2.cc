#define MINIM_CELL LstmCellAvx2
#include "kernels/cpu/lstm_cell_impl.h"
