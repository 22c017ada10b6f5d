/* Reads the neuron implementation's numbers of variables where it is included, as the real one does. */

#ifndef NEURON_RECORDING_H
#define NEURON_RECORDING_H

#include "../shim.h"

_Static_assert(N_RECORDED_VARS == 1 && N_BITFIELD_VARS == 1, "what the program records");

#endif
