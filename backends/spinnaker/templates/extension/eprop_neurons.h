/* Neurons of event-driven e-prop in integers: update, surrogate, errors of readouts, learning signals, rate regularisation.
 *
 * docs/spinnaker-eprop.md of neurocompile derives the formulas. Membranes are s16.15 of a scaled membrane unit, relative to rest. */

#ifndef EPROP_NEURONS_H
#define EPROP_NEURONS_H

#include "eprop.h"

#define EPROP_DECAY_BITS 31
#define EPROP_NEAR 64 /* pieces of the surrogate's table up to a width from the threshold */
#define EPROP_OCTAVE 32 /* and in each octave of widths beyond */
#define EPROP_TABLE (EPROP_NEAR + 8 * EPROP_OCTAVE)
#define EPROP_ERROR_MOST 32767
#define EPROP_EXP_BITS 16

#define EPROP_FLAG_SUBTRACT 1u
#define EPROP_FLAG_READOUT 2u
#define EPROP_FLAG_SOFTMAX 4u
#define EPROP_FLAG_LEARNS 8u
#define EPROP_FLAG_UNIFORM 16u /* one eprop_cell_t stands for all neurons */

/* x -> round(x mantissa 2^-shift) */
typedef struct {
    int32_t mantissa, shift;
} eprop_factor_t;

/* What all neurons of a core share; the compiler of neurocompile fills it in. */
typedef struct {
    uint32_t flags;
    int32_t reach; /* |v - threshold| at which the table ends */
    eprop_factor_t position; /* distance -> sixty-fourths of a width, 8 fraction bits */
    int32_t rate_decay, rate_step, rate_target; /* 31, 30, 30 fraction bits */
    eprop_factor_t hold; /* rate -> regularisation term */
    eprop_factor_t signal; /* what was heard -> learning signal */
    eprop_factor_t error; /* a readout's membrane -> error of a packet */
    eprop_factor_t learn; /* error of a packet -> the readout's own learning signal */
    uint16_t table[EPROP_TABLE + 2]; /* psi; the last entry is padding */
} eprop_cells_t;

#ifdef EPROP_NUMBERS /* as of EPROP_TABLES */
extern eprop_cells_t eprop_cells;
#define EPROP_PSI_TABLE(CELLS) eprop_cells.table
#else
#define EPROP_PSI_TABLE(CELLS) (CELLS)->table
#endif

/* Keys of the readouts' packets; the number of a readout is what the mask leaves, shifted right (sPyNNaker's colour bits stand below it). */
typedef struct {
    uint32_t key, mask, shift;
} eprop_hearing_t;

/* Parameters of a neuron. */
typedef struct {
    int32_t decay, current_decay, adapt_decay; /* 31 fraction bits */
    int32_t bias, v_min, threshold, v_reset, adapt_step, leak, refractory, initial_current;
} eprop_cell_t;

/* State of a neuron. */
typedef struct {
    int32_t v, current, refractory, adaptation, spiked, rate, held_1, held_2;
} eprop_state_of_neuron_t;

static inline int32_t eprop_scaled(int64_t value, eprop_factor_t by) {
    return eprop_limited(eprop_rounded(value * by.mantissa, by.shift), INT32_MAX);
}

static inline int32_t eprop_decayed(int32_t value, int32_t decay) {
    return eprop_rounded_word(eprop_product(value, decay), EPROP_DECAY_BITS);
}

/* psi at a distance >= 0 from the threshold. */
static inline int32_t eprop_psi(const eprop_cells_t *cells, int64_t distance) {
    if (distance >= cells->reach) {
        return 0;
    }
    const int32_t place = eprop_rounded_word(distance * cells->position.mantissa, cells->position.shift);
    const uint32_t whole = (uint32_t) place >> 8;
    uint32_t at = whole, bits = 8;
    if (whole >= EPROP_NEAR) {
        const uint32_t octave = 25 - (uint32_t) __builtin_clz(whole); /* whole is 64 .. 127: 0 */
        bits = 9 + octave;
        at = EPROP_NEAR + EPROP_OCTAVE * (octave - 1) + (whole >> (octave + 1));
    }
    at = at < EPROP_TABLE - 1 ? at : EPROP_TABLE - 1;
    const uint16_t *table = EPROP_PSI_TABLE(cells);
    const int32_t below = table[at], rise = table[at + 1] - below;
    return below + eprop_rounded_word(eprop_product(rise, place & ((1 << bits) - 1)), (int32_t) bits);
}

/* One step of a neuron with its input, membrane units. Returns whether it spikes; psi is that of this step, reg the regularisation term of
 * two steps ago. */
static inline bool eprop_update(
        const eprop_cells_t *cells, const eprop_cell_t *cell, int64_t arrived, eprop_state_of_neuron_t *own, int32_t *psi, int32_t *reg) {
    const bool subtract = cells->flags & EPROP_FLAG_SUBTRACT;
    own->current = eprop_limited(eprop_decayed(own->current, cell->current_decay) + arrived, INT32_MAX);
    int32_t refractory = own->refractory, v = own->v;
    if (subtract || refractory == 0) {
        v = eprop_limited((int64_t) eprop_decayed(v, cell->decay) + own->current + cell->bias, INT32_MAX);
        v = v < cell->v_min ? cell->v_min : v;
    }
    refractory -= refractory > 0;
    own->adaptation = eprop_limited(
            (int64_t) eprop_decayed(own->adaptation, cell->adapt_decay) + (own->spiked ? cell->adapt_step : 0), INT32_MAX);
    const int32_t threshold = eprop_limited((int64_t) cell->threshold + own->adaptation, INT32_MAX);
    bool fires = false;
    *psi = 0;
    if (refractory == 0) {
        const int64_t distance = (int64_t) v - threshold;
        fires = distance >= 0;
        *psi = eprop_psi(cells, fires ? distance : -distance);
    }
    if (fires) {
        refractory = cell->refractory;
        v = subtract ? (int32_t) (v - (int64_t) cell->threshold) : cell->v_reset;
    }
    own->v = v;
    own->refractory = refractory;
    own->spiked = fires;
    *reg = 0;
    if (cells->hold.mantissa) {
        own->rate = eprop_decayed(own->rate, cells->rate_decay) + (fires ? cells->rate_step : 0);
        *reg = own->held_2;
        own->held_2 = own->held_1;
        own->held_1 = eprop_scaled((int64_t) own->rate - cells->rate_target, cells->hold);
    }
    return fires;
}

/* One step of a readout; returns its membrane, rest included. */
static inline int32_t eprop_update_readout(const eprop_cell_t *cell, int64_t arrived, eprop_state_of_neuron_t *own) {
    own->current = eprop_limited(eprop_decayed(own->current, cell->current_decay) + arrived, INT32_MAX);
    const int32_t v = eprop_limited((int64_t) eprop_decayed(own->v, cell->decay) + own->current + cell->bias, INT32_MAX);
    own->v = v < cell->v_min ? cell->v_min : v;
    return eprop_limited((int64_t) own->v + cell->leak, INT32_MAX);
}

/* error <- y - target in units of a packet's error. */
static inline void eprop_squared_errors(const eprop_cells_t *cells, uint32_t n, const int32_t *y, const int32_t *target, int32_t *error) {
    for (uint32_t j = 0; j < n; j++) {
        error[j] = eprop_limited(eprop_rounded(((int64_t) y[j] - target[j]) * cells->error.mantissa, cells->error.shift), EPROP_ERROR_MOST);
    }
}

/* 2^(16 - x / 2^16), x >= 0, by a table of 2^-x in 256 pieces. */
static inline int32_t eprop_exp(const int32_t table[257], int64_t x) {
    const int64_t whole = x >> 16;
    if (whole > EPROP_EXP_BITS) {
        return 0;
    }
    const int32_t place = (int32_t) (x >> 8) & 255, above = table[place];
    return (above + eprop_rounded_word(eprop_product(table[place + 1] - above, (int32_t) (x & 255)), 8)) >> whole;
}

/* error <- softmax(y) - target, target and error in 1 / 32767. */
static inline void eprop_softmax_errors(
        const eprop_cells_t *cells, const int32_t table[257], uint32_t n, const int32_t *y, const int32_t *target, int32_t *error) {
    int32_t most = INT32_MIN, total = 0;
    for (uint32_t j = 0; j < n; j++) {
        most = y[j] > most ? y[j] : most;
    }
    for (uint32_t j = 0; j < n; j++) {
        error[j] = eprop_exp(table, eprop_rounded(((int64_t) most - y[j]) * cells->error.mantissa, cells->error.shift));
        total += error[j];
    }
    for (uint32_t j = 0; j < n; j++) {
        error[j] = error[j] * EPROP_ERROR_MOST / total - target[j];
    }
}

#endif
