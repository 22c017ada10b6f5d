/* What the neurons and the synapses of a core share. A core runs one population's slice; both halves are in one binary. */

#ifndef EPROP_CORE_H
#define EPROP_CORE_H

#include "eprop_neurons.h"

/* A build has the numbers of a population's rule in a header of its own, eprop_fixed_scales and eprop_fixed_cells: shifts that the compiler
 * knows halve the cycles. Without it they are those of the regions. */
#ifdef EPROP_NUMBERS
#include EPROP_NUMBERS
#define EPROP_SCALES (&eprop_fixed_scales)
#define EPROP_CELLS (&eprop_fixed_cells)
#else
#define EPROP_SCALES (&eprop_rule)
#define EPROP_CELLS (&eprop_cells)
#endif

/* A key under which each spike is sent: ticks that it is held back, and what is added to the neurons' own keys. */
typedef struct {
    uint32_t wait, offset;
} eprop_send_t;

extern eprop_scales_t eprop_rule; /* what the synapse dynamics' region begins with */

/* Then follow this, and targets: n_targets rows of a number for each readout. A row whose first number is
 * EPROP_NO_TARGET is outside the learning window. */
typedef struct {
    int32_t low, high; /* bounds of weights, with their fraction bits */
    uint32_t ticks_per_target, n_targets; /* ticks of learning: breaks do not count */
    uint32_t sample_ticks, break_ticks; /* after each sample a break, in which everything but the weights is forgotten; 0: never */
    eprop_hearing_t hearing;
    uint32_t n_sweep; /* after the targets: EPROP_SWEEP + 1 places in the list of sources' keys that follows: a tick's begin there */
    uint32_t rows_per_key; /* at most */
    uint32_t n_sends; /* after the sources' keys: eprop_send_t of each key under which this core's spikes are sent */
} eprop_learning_t;

#define EPROP_NO_TARGET INT32_MIN
#define EPROP_SWEEP ((EPROP_BLOCKS - 1) * EPROP_WINDOW)

/* The head of a row's plastic part; weight[n], e[n], with regularisation r[n], and with adaptation q[n] follow. */
typedef struct {
    int32_t z;
    uint32_t block;
    int32_t sign; /* +1, -1: all weights keep this sign; 0: they need not */
} eprop_row_head_t;

typedef struct {
    eprop_learning_t learning;
    const int32_t *targets; /* SDRAM */
    const uint32_t *sweep_first, *sweep_keys; /* SDRAM */
    const eprop_send_t *sends; /* SDRAM */
    volatile uint32_t n_updates; /* ticks of the machine of which the neurons were updated */
    uint32_t tick; /* of learning, which stands still in breaks; rows are anchored to its blocks */
    uint32_t in_break; /* ticks that the break has lasted, this one included; 0 outside */
    uint32_t n; /* neurons */
    uint32_t saturated; /* states that reached the end of their format */
    eprop_neuron_t *neurons;
    eprop_block_t (*rings)[EPROP_RING];
} eprop_core_t;

extern eprop_core_t eprop_core;

uint32_t eprop_sweep_due(void); /* the sweep (synaptogenesis_eprop.c): how many rows may be due in this tick, once its time is set */

/* Set the tick of learning from that of the machine. Returns whether a sample begins after a break. */
static inline bool eprop_set_time(uint32_t time) {
    const uint32_t sample = eprop_core.learning.sample_ticks, period = sample + eprop_core.learning.break_ticks;
    if (sample == 0) {
        eprop_core.tick = time;
        return false;
    }
    const uint32_t within = time % period;
    eprop_core.in_break = within < sample ? 0 : within - sample + 1;
    eprop_core.tick = time / period * sample + (within < sample ? within : sample - 1);
    return within == 0 && time > 0;
}

#endif
